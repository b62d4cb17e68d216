"""A judge learns from preferences, through trl's trainer of reward models."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import TrainerCallback
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from rlchat_reward_models.judge import Judge
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.reading import Read, Reader

Report = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class JudgeTraining:
    """How a judge is trained."""

    epochs: float = 2.0
    """Passes over the preferences."""
    batch: int = 16
    """Preferences an optimiser step."""
    learning_rate: float = 1e-4
    """Of trunk and heads, at first; it falls to 0 along a cosine."""
    centre: float = 0.01
    """Price of scores that wander off zero (Eisenstein et al. 2023)."""


class Collate:
    """Makes a batch: chosen replies first, then rejected ones."""

    def __init__(self, reader: Reader, heads: int):
        """Lay out with a reader's padding, for so many heads."""
        self._reader, self._heads = reader, heads

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Collate rows of `dataset`."""
        reads = [Read(r[f"{side}_ids"], r[f"{side}_start"]) for side in SIDES for r in rows]
        laid = self._reader.pad_rows(reads)
        return {
            "input_ids": laid.ids,
            "attention_mask": laid.attention,
            "reply_mask": laid.reply,
            "label": torch.tensor([r["label"] for r in rows]),
            "counts": torch.tensor([r["counts"] for r in rows]),
        }


SIDES = ("chosen", "rejected")


def dataset(preferences: Sequence[Preference], reader: Reader, heads: int, seed: int) -> Dataset:
    """Tokenise, and say how much each comparison counts for which head.

    Every head sees a bootstrap sample of its own, drawn as exponential weights (Rubin 1981, the
    Bayesian bootstrap).
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.empty(len(preferences), heads)
    counts = draws.exponential_(generator=generator) if heads > 1 else torch.ones_like(draws)
    rows = []
    for p, own in zip(preferences, counts.tolist(), strict=True):
        chosen, rejected = reader.read(p.prompt, p.chosen), reader.read(p.prompt, p.rejected)
        rows.append(
            {
                "chosen_ids": chosen.ids,
                "chosen_start": chosen.start,
                "rejected_ids": rejected.ids,
                "rejected_start": rejected.start,
                "label": p.probability,
                "counts": own,
                "length": len(chosen.ids) + len(rejected.ids),
            }
        )
    return Dataset.from_list(rows)


def preference_loss(logits: Tensor, length: Tensor, label: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy of soft Bradley–Terry labels, over heads and comparisons.

    −y log σ(Δ) − (1 − y) log σ(−Δ), Δ the difference of scores and of the length expert's.

    Args:
        logits: (2 B, H), chosen replies first.
        length: (2 B,), the length expert's.
        label: (B,) that a judge prefers the chosen one.
        counts: (B, H) how much a comparison counts for a head.
    """
    chosen, rejected = (logits + length[:, None]).chunk(2)
    difference, y = chosen - rejected, label[:, None]
    loss = -y * logsigmoid(difference) - (1 - y) * logsigmoid(-difference)
    return (loss * counts).sum() / counts.sum().clamp(min=1e-6)


class _Trainer(RewardTrainer):
    """trl's trainer with our loss: soft labels, several heads, a length expert."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        label, counts = inputs.pop("label"), inputs.pop("counts")
        out = model(**inputs)
        loss = preference_loss(out.logits.float(), out.length.float(), label, counts)
        assert isinstance(self.args, RewardConfig)
        centre = self.args.center_rewards_coefficient or 0.0
        loss = loss + centre * out.logits.float().square().mean()
        return (loss, {"logits": out.logits}) if return_outputs else loss


class _Tell(TrainerCallback):
    def __init__(self, report: Report):
        self._report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            done = state.global_step / max(1, state.max_steps)
            self._report({"done": done, "loss": float(logs["loss"])})


def train_judge(
    judge: Judge,
    reader: Reader,
    preferences: Sequence[Preference],
    config: JudgeTraining,
    half: bool = False,
    seed: int = 0,
    report: Report = lambda row: None,
) -> None:
    """Train a judge in place.

    Args:
        judge: learns.
        reader: its tokens.
        preferences: tidied; at least one.
        config: how.
        half: compute in bfloat16; weights stay whole.
        seed: order, and bootstrap samples.
        report: told ``done`` (share) and ``loss`` as it goes.
    """
    rows = dataset(preferences, reader, len(judge.heads), seed)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = RewardConfig(
            output_dir=scratch,
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            center_rewards_coefficient=config.centre,
            use_cpu=next(judge.parameters()).device.type == "cpu",
            bf16=half,
            gradient_checkpointing=False,
            max_length=None,
            remove_unused_columns=False,
            train_sampling_strategy="group_by_length",
            length_column_name="length",
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=seed,
        )
        trainer = _Trainer(
            cast(Any, judge),  # trl asks no more of a model than a judge has
            args=arguments,
            data_collator=Collate(reader, len(judge.heads)),
            train_dataset=rows,
            processing_class=reader.tokenizer,
            callbacks=[_Tell(report)],
        )
        trainer.train()
    judge.eval()
