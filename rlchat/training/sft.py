"""The supervised start: imitate demonstrations until that has converged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from rlchat.algorithms.optimizer import MasterAdamW
from rlchat.errors import UserError
from rlchat.models.chat_template import ChatTemplate, TokenizedConversation
from rlchat.models.logits import token_logprobs
from rlchat.models.packing import LaidRows
from rlchat.models.policy import Policy
from rlchat.training.config import WarmStartConfig
from rlchat_envs import Conversation

VALIDATION_SHARE = 0.1
IGNORED = -100  # transformers' mark for tokens without a loss
MICROBATCH = 4  # most conversations in one forward: activations are what memory goes to
KEPT = 2**30  # bytes of states that are kept from epoch to epoch
SETTLED = 0.01  # of the first learning rate is what the last epoch ends with

OnProgress = Callable[[Mapping[str, float]], None]


def dataset(
    conversations: Sequence[Conversation], template: ChatTemplate, max_tokens: int
) -> Dataset:
    """Ids and labels as `template` makes them: a loss on what the assistant said, and its end.

    Conversations longer than ``max_tokens`` are cut.
    """
    return _rows([template.conversation(c) for c in conversations], max_tokens)


def _rows(conversations: Sequence[TokenizedConversation], max_tokens: int) -> Dataset:
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for conversation in conversations:
        ids, mask = conversation.ids[:max_tokens], conversation.action_mask[:max_tokens]
        rows["input_ids"].append(ids)
        rows["labels"].append([i if m else IGNORED for i, m in zip(ids, mask, strict=True)])
    return Dataset.from_dict(rows)


def what_is_lost(
    conversations: Sequence[TokenizedConversation], template: ChatTemplate, max_tokens: int
) -> str:
    """A sentence on what a training does not see, with counts; empty if it sees everything."""
    cut = sum(len(c.ids) > max_tokens for c in conversations)
    silent = sum(not _is_labelled(c, max_tokens) for c in conversations)
    lost = []
    if cut:
        lost.append(
            f"{cut:,} of {len(conversations):,} conversations have more than {max_tokens:,} tokens "
            "and were cut there (--warm-start.max-tokens)"
        )
    if silent:
        lost.append(
            f"{silent:,} of {len(conversations):,} conversations were left out, as the agent says "
            "nothing in them that is kept"
        )
    if of_messages := template.cuts.notice():
        lost.append(of_messages)
    return "; ".join(lost)


def _is_labelled(conversation: TokenizedConversation, max_tokens: int) -> bool:
    """Whether there is a token to learn; the first of a row has nothing before it."""
    return any(conversation.action_mask[1:max_tokens])


def _learnable(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    max_tokens: int,
    warn: Callable[[str], None],
) -> tuple[list[TokenizedConversation], list[int]]:
    """Tokens of conversations, and the places of those in which there is something to learn.

    Raises:
        UserError: there is in fewer than two of them.
    """
    tokenized = [template.conversation(c) for c in conversations]
    labelled = [i for i, c in enumerate(tokenized) if _is_labelled(c, max_tokens)]
    if lost := what_is_lost(tokenized, template, max_tokens):
        warn(f"warm start: {lost}")
    if len(labelled) < 2:
        raise UserError(
            f"expected at least 2 conversations to learn from; got {len(labelled)}"
            + (f" ({lost})" if lost else "")
        )
    return tokenized, labelled


def validation_rows(conversations: Sequence[Conversation], seed: int) -> list[int]:
    """Draw the rows that are held out, whole conversations: about a tenth, and never none.

    Files may hold one conversation in several rows, each as long as one of its turns: a row that
    another one begins with goes where that goes.

    Args:
        conversations: at least two.
        seed: of the draw.
    """
    groups = _same_conversation(conversations)
    if len(groups) == 1:  # nothing else is there to be held out
        groups = [[i] for i in range(len(conversations))]
    order = np.random.default_rng(seed).permutation(len(groups))
    room, drawn = _held_out(len(conversations)), list[int]()
    for group in (groups[i] for i in order):
        if len(drawn) + len(group) <= room:
            drawn += group
    smallest: list[int] = min(groups, key=len)
    return sorted(drawn or smallest)


def _held_out(rows: int) -> int:
    return max(1, int(VALIDATION_SHARE * rows))


def _same_conversation(conversations: Sequence[Conversation]) -> list[list[int]]:
    """Groups of rows that begin with the same row, which may be one of them."""
    known = set(conversations)
    groups: dict[Conversation, list[int]] = {}
    for i, conversation in enumerate(conversations):
        beginnings = (conversation[:end] for end in range(1, len(conversation) + 1))
        groups.setdefault(next(b for b in beginnings if b in known), []).append(i)
    return list(groups.values())


@dataclass
class _UntilConverged(TrainerCallback):
    """Ends training with the first epoch that improves the validation loss too little."""

    tolerance: float
    report: OnProgress
    losses: list[float]

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Pass trl's progress on to the caller."""
        self.report({"done": state.global_step / max(1, state.max_steps), **(logs or {})})

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Compare with the epoch before."""
        self.losses.append(kwargs["metrics"]["eval_loss"])
        if len(self.losses) > 1 and self.losses[-1] > self.losses[-2] * (1 - self.tolerance):
            control.should_training_stop = True


class _ActionTrainer(SFTTrainer):
    """trl's trainer with the loss read at the labelled tokens only.

    trl's own reads the whole vocabulary at every token, which on a CPU is most of the work;
    about one token in seven has a label here. Layers that have nothing to train see each
    conversation once, and not in every epoch: ``room`` bytes of their states are kept.
    """

    policy: Policy
    cached_states: dict[bytes, torch.Tensor]
    room: int = 0
    kept: int = 0

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Negative log-likelihood of labelled tokens, divided by their number in the batch."""
        lengths, labels = inputs["attention_mask"].sum(1).tolist(), inputs["labels"]
        rows = [ids[:length] for ids, length in zip(inputs["input_ids"], lengths, strict=True)]
        packing = self.policy.packing(rows)
        row, token = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
        before = packing.at(row, token)
        last, _ = self.policy.trunk_states(self._start(packing), packing, before)
        logprobs = token_logprobs(self.policy.head, last, labels[row, token + 1])
        count = len(logprobs) if num_items_in_batch is None else num_items_in_batch
        loss = -logprobs.sum() / count
        return (loss, {"loss": loss}) if return_outputs else loss

    def _start(self, packing: LaidRows) -> torch.Tensor:
        """Where these rows' forwards start, kept from the first time."""
        if not self.policy.shared_layers:
            return packing.ids
        keys = [row.cpu().numpy().tobytes() for row in packing.rows]
        if all(key in self.cached_states for key in keys):
            return packing.lay([self.cached_states[key] for key in keys])
        states = self.policy.frozen_prefix(packing)
        for i, key in enumerate(keys):
            if self.kept < self.room and key not in self.cached_states:
                self.cached_states[key] = packing.row(states, i)
                self.kept += self.cached_states[key].nbytes
        return states


def rate(step: int, steps: int) -> float:
    """The learning rate's factor: ten steps up, then down like a bell curve to `SETTLED`.

    Most is learnt at a high rate, and the end settles. Falling to a third with each of several
    epochs ended at a worse loss.

    Args:
        step: optimizer steps so far.
        steps: of all epochs.
    """
    return min(1.0, (step + 1) / 10) * float(SETTLED ** ((step / steps) ** 2))


def warm_start(
    policy: Policy,
    conversations: Sequence[Conversation],
    config: WarmStartConfig,
    seed: int,
    out: Path,
    in_random_order: bool = False,
    report: OnProgress = lambda row: None,
    warn: Callable[[str], None] = lambda line: None,
) -> list[float]:
    """Train the policy's adapter on conversations with trl's SFTTrainer and write it to ``out``.

    trl changes the model it trains: load the adapter into a fresh policy afterwards.

    Args:
        policy: its adapter is trained.
        conversations: a tenth of them is held out, for the validation loss.
        config: of the training.
        seed: decides the order, and what is held out.
        out: where the adapter goes.
        in_random_order: whether the conversations are drawn independently, as those of simulators
            are: then the first of them are held out.
        report: told how it goes.
        warn: told once of what is cut or left out.

    Returns:
        The validation loss after each epoch: nats per assistant token, mean over batches.

    Raises:
        UserError: fewer than two conversations in which the agent says something.
    """
    tokenized, labelled = _learnable(conversations, policy.template, config.max_tokens, warn)
    if in_random_order:
        held_out = list(range(_held_out(len(labelled))))
    else:
        held_out = validation_rows([conversations[i] for i in labelled], seed)
    disable_progress_bars()  # one live line is ours
    data = _rows([tokenized[i] for i in labelled], config.max_tokens)
    optimizer = MasterAdamW(policy.parameters(), config.learning_rate)
    callback = _UntilConverged(config.tolerance, report, [])
    with tempfile.TemporaryDirectory() as scratch:
        args = _arguments(config, scratch, seed, policy.device.type == "cpu")
        _trainer(policy, data, held_out, config, args, optimizer, callback).train()
    names = [name for name, _ in policy.named_parameters()]
    policy.save(out, dict(zip(names, optimizer.masters, strict=True)))
    return callback.losses


def _trainer(
    policy: Policy,
    data: Dataset,
    held_out: Sequence[int],
    config: WarmStartConfig,
    args: SFTConfig,
    optimizer: MasterAdamW,
    callback: TrainerCallback,
) -> _ActionTrainer:
    """Make trl's trainer on the rows that are not held out."""
    trained = sorted(set(range(len(data))) - set(held_out))
    steps = config.epochs * -(-len(trained) // config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    trainer = _ActionTrainer(
        model=policy.model,
        args=args,
        train_dataset=data.select(trained),
        eval_dataset=data.select(held_out),
        processing_class=policy.template.tokenizer,
        optimizers=(optimizer, schedule),
        callbacks=[callback],
    )
    trainer.policy, trainer.cached_states = policy, {}
    trainer.room = KEPT if config.epochs > 1 else 0
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _arguments(config: WarmStartConfig, scratch: str, seed: int, cpu: bool) -> SFTConfig:
    """Make trl's settings; it reports to nobody and writes nothing that stays."""
    microbatch = max(n for n in range(1, MICROBATCH + 1) if config.batch % n == 0)
    return SFTConfig(
        output_dir=scratch,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=microbatch,
        per_device_eval_batch_size=MICROBATCH,
        gradient_accumulation_steps=config.batch // microbatch,
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        bf16=False,
        gradient_checkpointing=False,
        max_length=config.max_tokens,
        use_cpu=cpu,
        dataloader_pin_memory=False,
        train_sampling_strategy="group_by_length",
    )
