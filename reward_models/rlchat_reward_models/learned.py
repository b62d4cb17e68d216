"""What a trained judge says of replies: calibrated, cautious, on a known scale, remembered."""

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
from rlchat_reward_models.judge import Judge, Opinion
from rlchat_reward_models.reading import Read, Reader

SETTINGS, HEADS, TRUNK = "judge.json", "heads.safetensors", "trunk"
REMEMBERED = 100_000  # opinions on replies: a few MB

Span = Literal["turn", "conversation"]  # what is judged: a reply in its context, or all of it
OpenTrunk = Callable[[str], tuple[PreTrainedModel, PreTrainedTokenizerBase]]


@dataclass(frozen=True, slots=True)
class Scale:
    """How a judge's logits become scores.

    ``temperature`` makes differences the log-odds of being preferred; ``mean`` and ``std`` (in
    logits over temperature) are those of a reference policy's replies, which so score 0 on
    average, with spread 1; ``caution`` times the heads' disagreement is taken off.
    """

    temperature: float = 1.0
    mean: float = 0.0
    std: float = 1.0
    caution: float = 0.5

    def logits(self, opinion: Opinion) -> torch.Tensor:
        """Calibrated and pessimistic: (N,) log-odds, up to a constant."""
        return (opinion.mean - self.caution * opinion.std) / self.temperature

    def scores(self, opinion: Opinion) -> torch.Tensor:
        """The same with mean 0 and spread 1 under the reference policy."""
        return (self.logits(opinion) - self.mean) / self.std


@dataclass(frozen=True, slots=True)
class Settings:
    """What is kept of a judge beside its weights."""

    trunk: str
    adapted: bool  # an adapter over `trunk`, which is opened by its name
    heads: int
    max_tokens: int
    scale: Scale
    span: Span = "turn"


class LearnedScorer:
    """Scores replies in batches; what it has seen before costs nothing."""

    def __init__(self, judge: Judge, reader: Reader, settings: Settings, batch: int = 32):
        """Score with a trained judge, so many replies at a time."""
        self.judge, self.reader, self.settings, self.batch = judge.eval(), reader, settings, batch
        self._known: dict[bytes, tuple[float, float]] = {}
        self.dtype = torch.float32

    @property
    def scale(self) -> Scale:
        """How logits become scores."""
        return self.settings.scale

    @property
    def span(self) -> Span:
        """What it learned to judge."""
        return self.settings.span

    def rescale(self, scale: Scale) -> None:
        """Score on another scale from now on."""
        self.settings = replace(self.settings, scale=scale)

    def score(self, turns: Sequence[tuple[Conversation, Conversation]]) -> list[float]:
        """Score replies.

        Args:
            turns: of each the messages before it, and the reply.

        Returns:
            Scores in standard deviations of the reference policy's.
        """
        return [float(s) for s in self.scale.scores(self.opinions(turns))]

    def opinions(self, turns: Sequence[tuple[Conversation, Conversation]]) -> Opinion:
        """What the heads say, unscaled: each (N,)."""
        reads = [self.reader.read(context, reply) for context, reply in turns]
        keys = [_key(read) for read in reads]
        if len(self._known) > REMEMBERED:
            self._known.clear()
        fresh = {key: read for key, read in zip(keys, reads, strict=True) if key not in self._known}
        ordered = sorted(fresh.items(), key=lambda item: len(item[1].ids))
        for i in range(0, len(ordered), self.batch):
            part = ordered[i : i + self.batch]
            found = self._judge([read for _, read in part])
            pairs = zip(found.mean.tolist(), found.std.tolist(), strict=True)
            self._known.update(zip((key for key, _ in part), pairs, strict=True))
        known = torch.tensor([self._known[key] for key in keys]).reshape(-1, 2)
        return Opinion(known[:, 0], known[:, 1])

    def normalise(self, turns: Sequence[tuple[Conversation, Conversation]]) -> None:
        """Set the scale so that these replies, a reference policy's, score 0 ± 1."""
        logits = self.scale.logits(self.opinions(turns))
        std = max(float(logits.std()), 1e-3) if len(turns) > 1 else 1.0
        self.rescale(replace(self.scale, mean=float(logits.mean()), std=std))

    def save(self, folder: Path) -> None:
        """Write everything into a folder that is there and empty."""
        self.judge.trunk.save_pretrained(folder / TRUNK)
        self.reader.tokenizer.save_pretrained(folder / TRUNK)
        own = {k: v for k, v in self.judge.state_dict().items() if not k.startswith("trunk.")}
        save_file({k: v.detach().cpu().contiguous() for k, v in own.items()}, folder / HEADS)
        (folder / SETTINGS).write_text(json.dumps(asdict(self.settings), indent=1), "utf-8")

    @classmethod
    def load(cls, folder: Path, open_trunk: OpenTrunk, device: str = "cpu") -> LearnedScorer:
        """Read what `save` wrote.

        Args:
            folder: of a reward model.
            open_trunk: opens the base model of an adapted trunk by its name.
            device: where it computes.

        Raises:
            ValueError: the folder holds no reward model.
        """
        try:
            kept: dict[str, Any] = json.loads((folder / SETTINGS).read_text("utf-8"))
            settings = Settings(**{**kept, "scale": Scale(**kept["scale"])})
            tokenizer = AutoTokenizer.from_pretrained(folder / TRUNK, trust_remote_code=False)
            trunk: Any
            if settings.adapted:
                trunk = PeftModel.from_pretrained(open_trunk(settings.trunk)[0], folder / TRUNK)
            else:
                trunk = AutoModel.from_pretrained(
                    folder / TRUNK, trust_remote_code=False, use_safetensors=True
                )
            reader = Reader(tokenizer, settings.max_tokens)
            judge = Judge(trunk, reader.encoder, settings.heads)
            own = load_file(folder / HEADS)
            absent = judge.load_state_dict(own, strict=False)
            missing = [k for k in absent.missing_keys if not k.startswith("trunk.")]
            if absent.unexpected_keys or missing:
                raise ValueError("weights of another shape")
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            what = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"expected a reward model that rlchat reward train wrote; {folder} holds none "
                f"({what}); train one"
            ) from error
        torch.nn.Module.to(judge, device)
        return cls(judge, reader, settings)

    def _judge(self, reads: Sequence[Read]) -> Opinion:
        rows = self.reader.pad_rows(reads).to(next(self.judge.parameters()).device)
        half = self.dtype != torch.float32
        with torch.autocast(rows.ids.device.type, self.dtype) if half else nullcontext():
            return self.judge.opinion(rows)


def turns_of(conversation: Conversation) -> list[tuple[Conversation, Conversation]]:
    """Every reply of an agent's, and the messages before it."""
    return [(conversation[:i], (m,)) for i, m in enumerate(conversation) if m.role == "assistant"]


def parts_of(conversation: Conversation, span: Span) -> list[tuple[Conversation, Conversation]]:
    """What is judged in a conversation: each what came before it, and itself."""
    return turns_of(conversation) if span == "turn" else [split_whole(conversation)]


def split_whole(conversation: Conversation) -> tuple[Conversation, Conversation]:
    """What was there before an agent first spoke, and all the rest, to be judged as one."""
    roles = [m.role for m in conversation]
    first = roles.index("assistant") if "assistant" in roles else len(roles)
    return conversation[:first], conversation[first:]


def _key(read: Read) -> bytes:
    told = b"".join(i.to_bytes(4, "little") for i in (read.start, *read.ids))
    return hashlib.blake2b(told, digest_size=16).digest()
