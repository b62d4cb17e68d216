"""A judge learns from preferences, through trl's trainer of reward models."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from rlchat_envs import Conversation
from rlchat_reward_models.judge import Judge
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.reading import Read, Reader

Report = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class JudgeTraining:
    """How a judge is trained."""

    epochs: float = 1.0
    """Passes over the preferences; more where there are few."""
    batch: int = 8
    """Contexts an optimiser step, each with all its replies."""
    learning_rate: float = 1e-4
    """Of trunk and heads, at first; it falls to 0 along a cosine."""
    centre: float = 0.01
    """Price of scores that wander off zero (Eisenstein et al. 2023)."""


class Collate:
    """Makes a batch of contexts: every reply once, and which of them are compared."""

    def __init__(self, reader: Reader):
        """Lay out with a reader's padding."""
        self._reader = reader

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Collate rows of `dataset`: N replies, P comparisons, H heads."""
        reads = [Read(*read) for r in rows for read in zip(r["ids"], r["starts"], strict=True)]
        laid = self._reader.pad_rows(reads)
        offsets = [0, *accumulate(len(r["ids"]) for r in rows)]
        pairs = [
            [o + i for i in p] for o, r in zip(offsets, rows, strict=False) for p in r["pairs"]
        ]
        return {
            "input_ids": laid.ids,
            "attention_mask": laid.attention,
            "reply_mask": laid.reply,
            "pairs": torch.tensor(pairs),
            "labels": torch.tensor([y for r in rows for y in r["labels"]]),
            "counts": torch.tensor([c for r in rows for c in r["counts"]]),
        }


def dataset(preferences: Sequence[Preference], reader: Reader, heads: int, seed: int) -> Dataset:
    """Tokenise, one row a context: a reply that is compared with several is read once.

    Every head sees a bootstrap sample of its own, drawn as exponential weights (Rubin 1981, the
    Bayesian bootstrap).
    """
    draws = torch.ones(len(preferences), heads)
    if heads > 1:
        draws.exponential_(generator=torch.Generator().manual_seed(seed))
    rows: dict[tuple[str, Conversation], dict[str, Any]] = {}
    places: dict[tuple[str, Conversation], dict[Conversation, int]] = {}
    for p, counts in zip(preferences, draws.tolist(), strict=True):
        row = rows.setdefault(
            p.context, {"ids": [], "starts": [], "pairs": [], "labels": [], "counts": []}
        )
        known = places.setdefault(p.context, {})
        for side in (p.chosen, p.rejected):
            if side not in known:
                known[side] = len(known)
                read = reader.read(p.prompt, side)
                row["ids"].append(read.ids)
                row["starts"].append(read.start)
        row["pairs"].append([known[p.chosen], known[p.rejected]])
        row["labels"].append(p.probability)
        row["counts"].append(counts)
    return Dataset.from_list(
        [{**row, "length": max(len(ids) for ids in row["ids"])} for row in rows.values()]
    )


def preference_loss(scores: Tensor, pairs: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy of soft Bradley–Terry labels, over heads and comparisons.

    −y log σ(Δ) − (1 − y) log σ(−Δ), Δ the difference of scores.

    Args:
        scores: (N, H) of replies.
        pairs: (P, 2) which is preferred to which.
        labels: (P,) that a judge agrees.
        counts: (P, H) how much a comparison counts for a head.
    """
    difference, y = scores[pairs[:, 0]] - scores[pairs[:, 1]], labels[:, None]
    loss = -y * logsigmoid(difference) - (1 - y) * logsigmoid(-difference)
    return (loss * counts).sum() / counts.sum().clamp(min=1e-6)


class _Trainer(RewardTrainer):
    """trl's trainer with our loss: soft labels, several heads, a length expert."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """Ours is tokenised."""
        return dataset

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        compared = [inputs.pop(name) for name in ("pairs", "labels", "counts")]
        out = model(**inputs)
        loss = preference_loss(out.logits.float() + out.length.float()[:, None], *compared)
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
            data_collator=Collate(reader),
            train_dataset=rows,
            processing_class=reader.tokenizer,
            callbacks=[_Tell(report)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    judge.eval()
