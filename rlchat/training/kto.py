"""An adapter learns from thumbs, through trl's KTO trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from rlchat.errors import UserError
from rlchat.models.adapter_io import (
    base_spec,
    check_base,
    load_adapter,
    reading_of,
    write_adapter,
)
from rlchat.models.adapters import train_adapter
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.config import AdapterConfig
from rlchat.models.device import choose_device, choose_dtype
from rlchat.models.loading import BaseInfo, load_base
from rlchat.training.config import KtoConfig
from rlchat_envs import Conversation, declared

ADAPTER, REFERENCE = "default", "ref"  # the names that trl looks for, and gives
MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Thumb:
    """A reply in its context, and whether a person liked it."""

    context: Conversation
    text: str
    good: bool


class _Trainer(KTOTrainer):
    """trl's trainer on ids that rlchat's own template made."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


class _Tell(TrainerCallback):
    """Reports the loss of each step, and the share that is done."""

    def __init__(self, report: Callable[[float, float], None]):
        self._report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._report(state.global_step / max(1, state.max_steps), float(logs["loss"]))


def dataset(thumbs: Sequence[Thumb], template: ChatTemplate, batch: int) -> Dataset:
    """Ids of prompts and replies, and of replies to other prompts, which estimate the KL.

    Ethayarajh et al. 2024 ("KTO"), section 4: each prompt is paired with another's reply of its
    batch, or of the batch before where the last batch holds one thumb alone.
    """
    prompts = [template.prompt(t.context)[-(MAX_TOKENS // 2) :] for t in thumbs]
    replies = [template.reply(t.text, declared(t.context))[: MAX_TOKENS // 2] for t in thumbs]
    shifted = []
    for start in range(0, len(replies), batch):
        part = replies[start : start + batch]
        alone = len(part) == 1 and start > 0  # with its own reply, KL would be the reward itself
        shifted += [replies[start - 1]] if alone else [part[-1], *part[:-1]]
    return Dataset.from_dict(
        {
            "prompt_ids": prompts,
            "completion_ids": replies,
            "KL_completion_ids": shifted,
            "label": [t.good for t in thumbs],
        }
    )


def learn_thumbs(
    adapter: Path,
    thumbs: Sequence[Thumb],
    config: KtoConfig,
    out: Path,
    seed: int = 0,
    report: Callable[[float, float], None] = lambda done, loss: None,
) -> None:
    """Train a copy of an adapter on thumbs and write it.

    Good and bad thumbs weigh the same altogether, however many there are of each.

    Args:
        adapter: is what KL is measured to, too.
        thumbs: at least two.
        config: how.
        out: the new adapter's folder.
        seed: of the order.
        report: told the share done, and the loss.

    Raises:
        UserError: fewer than two thumbs.
    """
    if len(thumbs) < 2:
        raise UserError(
            f"expected at least 2 thumbs, as KTO pairs each prompt with another's reply; got "
            f"{len(thumbs)}; rate more in rlchat chat"
        )
    device = choose_device(AdapterConfig().device)
    peft, tokenizer, base = _trainable(adapter, device)
    model = peft.get_base_model()
    assert isinstance(model, PreTrainedModel)
    reading = reading_of(adapter, model)
    order = torch.randperm(len(thumbs), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [thumbs[i] for i in order]
    template = reading.template(tokenizer)
    rows = dataset(shuffled, template, config.batch)
    template.cuts.warn()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _Trainer(
            peft,
            args=_arguments(config, thumbs, seed, device, scratch),
            train_dataset=rows,
            processing_class=template.tokenizer,
            callbacks=[_Tell(report)],
        )
        _copy_reference(peft)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    trained = trainer.model
    assert isinstance(trained, PeftModel)
    write_adapter(out, trained, ADAPTER, base, reading=reading)


def _copy_reference(model: PeftModel) -> None:
    """Copy what trl leaves out of the reference: parameters that end with the adapter's name.

    Those are IA3's; their KL would be measured to the base.
    """
    for name, parameter in model.named_parameters():
        if name.endswith(f".{ADAPTER}"):
            reference = model.get_parameter(name.removesuffix(ADAPTER) + REFERENCE)
            reference.data.copy_(parameter.data)


def _trainable(
    adapter: Path, device: torch.device
) -> tuple[PeftModel, PreTrainedTokenizerBase, BaseInfo]:
    """Load an adapter over its base, to be trained in full precision."""
    spec = base_spec(adapter)
    model, tokenizer, base = load_base(spec, dtype=choose_dtype("auto", device))
    check_base(adapter, base)
    peft = load_adapter(model, adapter, ADAPTER)
    train_adapter(peft, ADAPTER)
    for parameter in peft.parameters():
        if parameter.requires_grad:  # small steps vanish in half precision
            parameter.data = parameter.data.float()
    return peft, tokenizer, base


def _arguments(
    config: KtoConfig, thumbs: Sequence[Thumb], seed: int, device: torch.device, scratch: str
) -> KTOConfig:
    """Make trl's settings; good and bad thumbs weigh the same altogether."""
    good = sum(t.good for t in thumbs)
    bad = len(thumbs) - good
    return KTOConfig(
        output_dir=scratch,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=min(config.batch, len(thumbs)),
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        beta=config.beta,
        desirable_weight=len(thumbs) / (2 * good) if good else 1.0,
        undesirable_weight=len(thumbs) / (2 * bad) if bad else 1.0,
        max_length=MAX_TOKENS,
        use_cpu=device.type == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
