"""Scores from a trained reward model: calibrated, on a known scale, cached by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rlchat_envs import Conversation
from rlchat_reward_models.reward_model import EnsembleScores, RewardModel
from rlchat_reward_models.tokenization import ReplyTokenizer, TokenizedReply

SETTINGS, HEADS, BACKBONE = "reward_model.json", "heads.safetensors", "backbone"
EARLIER = {SETTINGS: "judge.json", BACKBONE: "trunk"}  # what earlier versions called them
CACHE_SIZE = 100_000  # scores of replies: a few MB

Granularity = Literal["turn", "conversation"]  # what is scored: a reply in its context, or all
OpenBackbone = Callable[[str], tuple[PreTrainedModel, PreTrainedTokenizerBase]]


@dataclass(frozen=True, slots=True)
class Scale:
    """How a reward model's logits become scores.

    ``temperature`` makes differences the log-odds of being preferred; ``mean`` and ``std`` (in
    logits over temperature) are those of a reference policy's replies, which so score 0 on
    average, with spread 1; ``uncertainty_penalty`` times the heads' disagreement is subtracted.
    """

    temperature: float = 1.0
    mean: float = 0.0
    std: float = 1.0
    uncertainty_penalty: float = 0.5

    def logits(self, found: EnsembleScores) -> torch.Tensor:
        """Calibrated and pessimistic logits: (N,) log-odds, up to a constant."""
        return (found.mean - self.uncertainty_penalty * found.std) / self.temperature

    def scores(self, found: EnsembleScores) -> torch.Tensor:
        """Logits with mean 0 and spread 1 under the reference policy: (N,)."""
        return (self.logits(found) - self.mean) / self.std


@dataclass(frozen=True, slots=True)
class Settings:
    """What is saved of a reward model beside its weights."""

    backbone: str
    adapted: bool  # an adapter over `backbone`, which is opened by its name
    heads: int
    max_tokens: int
    scale: Scale
    granularity: Granularity = "turn"


class LearnedScorer:
    """Scores replies in batches with a reward model, and caches the scores."""

    def __init__(
        self, model: RewardModel, tokenizer: ReplyTokenizer, settings: Settings, batch: int = 32
    ):
        """Score with a trained reward model, so many replies at a time."""
        self.model, self.tokenizer = model.eval(), tokenizer
        self.settings, self.batch = settings, batch
        self._cache: dict[bytes, tuple[float, float]] = {}
        self.dtype = torch.float32

    @property
    def scale(self) -> Scale:
        """How logits become scores."""
        return self.settings.scale

    @property
    def granularity(self) -> Granularity:
        """Whether it was trained to score replies or whole conversations."""
        return self.settings.granularity

    def rescale(self, scale: Scale) -> None:
        """Use another scale from now on."""
        self.settings = replace(self.settings, scale=scale)

    def score(self, turns: Sequence[tuple[Conversation, Conversation]]) -> list[float]:
        """Score replies.

        Args:
            turns: of each the messages before it, and the reply.

        Returns:
            Scores in standard deviations of the reference policy's.
        """
        return [float(s) for s in self.scale.scores(self.ensemble_scores(turns))]

    def ensemble_scores(self, turns: Sequence[tuple[Conversation, Conversation]]) -> EnsembleScores:
        """Mean and spread of the heads' logits, unscaled: each (N,)."""
        replies = [self.tokenizer.tokenize(context, reply) for context, reply in turns]
        keys = [_key(reply) for reply in replies]
        if len(self._cache) > CACHE_SIZE:
            self._cache.clear()
        fresh = {k: reply for k, reply in zip(keys, replies, strict=True) if k not in self._cache}
        ordered = sorted(fresh.items(), key=lambda item: len(item[1].ids))
        for i in range(0, len(ordered), self.batch):
            part = ordered[i : i + self.batch]
            found = self._compute([reply for _, reply in part])
            pairs = zip(found.mean.tolist(), found.std.tolist(), strict=True)
            self._cache.update(zip((key for key, _ in part), pairs, strict=True))
        cached = torch.tensor([self._cache[key] for key in keys]).reshape(-1, 2)
        return EnsembleScores(cached[:, 0], cached[:, 1])

    def normalize(self, turns: Sequence[tuple[Conversation, Conversation]]) -> None:
        """Set the scale so that these replies, a reference policy's, score 0 ± 1."""
        logits = self.scale.logits(self.ensemble_scores(turns))
        std = max(float(logits.std()), 1e-3) if len(turns) > 1 else 1.0
        self.rescale(replace(self.scale, mean=float(logits.mean()), std=std))

    def save(self, folder: Path) -> None:
        """Write everything into an empty folder that exists."""
        self.model.backbone.save_pretrained(folder / BACKBONE)
        self.tokenizer.tokenizer.save_pretrained(folder / BACKBONE)
        own = {k: v for k, v in self.model.state_dict().items() if not _of_backbone(k)}
        save_file({k: v.detach().cpu().contiguous() for k, v in own.items()}, folder / HEADS)
        (folder / SETTINGS).write_text(json.dumps(asdict(self.settings), indent=1), "utf-8")

    @classmethod
    def load(cls, folder: Path, open_backbone: OpenBackbone, device: str = "cpu") -> LearnedScorer:
        """Read a folder that `save` wrote, here or in an earlier version.

        Args:
            folder: of a reward model.
            open_backbone: opens the base model of an adapted backbone by its name.
            device: where it computes.

        Raises:
            ValueError: the folder holds no reward model.
        """
        try:
            settings = _settings(_place(folder, SETTINGS))
            place = _place(folder, BACKBONE)
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
            backbone: Any
            if settings.adapted:
                base, _ = open_backbone(settings.backbone)
                backbone = PeftModel.from_pretrained(base, place)
            else:
                backbone = AutoModel.from_pretrained(
                    place, trust_remote_code=False, use_safetensors=True
                )
            replies = ReplyTokenizer(tokenizer, settings.max_tokens)
            model = RewardModel(backbone, replies.encoder, settings.heads)
            own = load_file(folder / HEADS)
            absent = model.load_state_dict(own, strict=False)
            missing = [k for k in absent.missing_keys if not _of_backbone(k)]
            if absent.unexpected_keys or missing:
                raise ValueError("weights of another shape")
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            what = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"expected a reward model that rlchat reward train wrote; {folder} holds none "
                f"({what}); train one"
            ) from error
        torch.nn.Module.to(model, device)
        return cls(model, replies, settings)

    def _compute(self, replies: Sequence[TokenizedReply]) -> EnsembleScores:
        rows = self.tokenizer.pad_rows(replies).to(next(self.model.parameters()).device)
        half = self.dtype != torch.float32
        with torch.autocast(rows.ids.device.type, self.dtype) if half else nullcontext():
            return self.model.ensemble_scores(rows)


def turns_of(conversation: Conversation) -> list[tuple[Conversation, Conversation]]:
    """Every reply of the agent, after the messages before it."""
    return [(conversation[:i], (m,)) for i, m in enumerate(conversation) if m.role == "assistant"]


def parts_of(
    conversation: Conversation, granularity: Granularity
) -> list[tuple[Conversation, Conversation]]:
    """What is scored in a conversation: each part after the messages before it."""
    return turns_of(conversation) if granularity == "turn" else [split_whole(conversation)]


def split_whole(conversation: Conversation) -> tuple[Conversation, Conversation]:
    """The messages before the agent's first one, and all the rest, to be scored as one."""
    roles = [m.role for m in conversation]
    first = roles.index("assistant") if "assistant" in roles else len(roles)
    return conversation[:first], conversation[first:]


def _key(reply: TokenizedReply) -> bytes:
    content = b"".join(i.to_bytes(4, "little") for i in (reply.start, *reply.ids))
    return hashlib.blake2b(content, digest_size=16).digest()


def _of_backbone(weight: str) -> bool:
    """Whether a weight of a reward model is its backbone's, which is saved on its own."""
    return weight.startswith("backbone.")


def _place(folder: Path, name: str) -> Path:
    """A part of a reward model's folder, by its name or by that of earlier versions."""
    earlier = folder / EARLIER[name]
    return earlier if earlier.exists() and not (folder / name).exists() else folder / name


def _settings(path: Path) -> Settings:
    """Read settings; files of earlier versions have other keys for the same."""
    kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
    scale = dict(kept["scale"])
    for keys, old, new in (
        (kept, "trunk", "backbone"),
        (kept, "span", "granularity"),
        (scale, "caution", "uncertainty_penalty"),
    ):
        if old in keys:
            keys[new] = keys.pop(old)
    return Settings(**{**kept, "scale": Scale(**scale)})
