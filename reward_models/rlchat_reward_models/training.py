"""Training of a reward model on preferences, through trl's trainer of reward models."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
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
from rlchat_reward_models.config import RewardModelTraining
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.reward_model import RewardModel
from rlchat_reward_models.tokenization import ReplyTokenizer, TokenizedReply

OnProgress = Callable[[Mapping[str, float]], None]


class Collate:
    """Collates contexts into a batch: every reply once, and which of them are compared."""

    def __init__(self, tokenizer: ReplyTokenizer):
        """Use a tokenizer's padding."""
        self._tokenizer = tokenizer

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Collate rows of `dataset`: N replies, P comparisons, H heads."""
        replies = [
            TokenizedReply(ids, start)
            for r in rows
            for ids, start in zip(r["ids"], r["starts"], strict=True)
        ]
        padded = self._tokenizer.pad_rows(replies)
        offsets = [0, *accumulate(len(r["ids"]) for r in rows)]
        pairs = [
            [o + i for i in p] for o, r in zip(offsets, rows, strict=False) for p in r["pairs"]
        ]
        return {
            "input_ids": padded.ids,
            "attention_mask": padded.attention,
            "reply_mask": padded.reply,
            "pairs": torch.tensor(pairs),
            "labels": torch.tensor([y for r in rows for y in r["labels"]]),
            "counts": torch.tensor([c for r in rows for c in r["counts"]]),
        }


def dataset(
    preferences: Sequence[Preference], tokenizer: ReplyTokenizer, heads: int, seed: int
) -> Dataset:
    """Tokenize preferences, one row a context; a reply compared with several occurs once.

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
        for reply in (p.chosen, p.rejected):
            if reply not in known:
                known[reply] = len(known)
                tokens = tokenizer.tokenize(p.prompt, reply)
                row["ids"].append(tokens.ids)
                row["starts"].append(tokens.start)
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
        labels: (P,) how probable it is that a rater agrees.
        counts: (P, H) how much a comparison counts for a head.
    """
    difference, y = scores[pairs[:, 0]] - scores[pairs[:, 1]], labels[:, None]
    loss = -y * logsigmoid(difference) - (1 - y) * logsigmoid(-difference)
    return (loss * counts).sum() / counts.sum().clamp(min=1e-6)


class _Trainer(RewardTrainer):
    """trl's trainer with our loss: soft labels, several heads, a length expert."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """Return the data set as it is: ours is tokenized."""
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
    def __init__(self, report: OnProgress):
        self._report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            done = state.global_step / max(1, state.max_steps)
            self._report({"done": done, "loss": float(logs["loss"])})


def train_reward_model(
    model: RewardModel,
    tokenizer: ReplyTokenizer,
    preferences: Sequence[Preference],
    config: RewardModelTraining,
    half: bool = False,
    seed: int = 0,
    report: OnProgress = lambda row: None,
) -> None:
    """Train a reward model in place.

    Args:
        model: is trained.
        tokenizer: of its backbone.
        preferences: tidied; at least one.
        config: how to train.
        half: compute in bfloat16; weights stay in single precision.
        seed: of the order and the bootstrap samples.
        report: is called with ``done`` (share) and ``loss`` during training.
    """
    rows = dataset(preferences, tokenizer, len(model.heads), seed)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = RewardConfig(
            output_dir=scratch,
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            center_rewards_coefficient=config.center,
            use_cpu=next(model.parameters()).device.type == "cpu",
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
            cast(Any, model),  # trl needs no more of a model than ours has
            args=arguments,
            data_collator=Collate(tokenizer),
            train_dataset=rows,
            processing_class=tokenizer.tokenizer,
            callbacks=[_Tell(report)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.eval()
