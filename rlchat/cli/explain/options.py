"""Options of `explain` and `explain attention`: to read and explain them needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rlchat.errors import UserError
from rlchat.settings import SEEDS, expect

Shade = Literal["advantage", "value", "kl", "probability"]


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Show an episode of a run turn by turn, and why the agent said what it did.

    Of each turn: its score parts, what the critic expected before it (value), its distance from
    the warm start (KL), and its advantage as a sum of what each score component, the KL and the
    baseline gave. Tokens are shaded. Below, for each earlier message: how much less likely the
    reply is without it (occlusion), and how much attention the reply pays it.

    With --turn K and --say "TEXT" the episode goes on from turn K with another message, many
    times; with --turn K alone, with messages that the agent itself might have said there.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder of a training."""
    episode: int = 0
    """Index of the episode: in the transcripts of an iteration or, with --split, as in an
    evaluation."""
    iteration: int | None = None
    """Iteration whose transcripts are read; left out (None), the last one."""
    split: Literal["train", "dev", "test"] | None = None
    """Split of the environment on which the run's agent plays the episode now. Left out (None), the
    episode is one of the transcripts of its training, whose text is turned into tokens again."""
    seed: int = 0
    """With --split: seed of users and goals, which are those of rlchat eval with the same seed."""
    temperature: float = 1.0
    """With --split: sampling temperature; 1 is how agents are trained, 0 is greedy."""
    beside: int = 15
    """Number of other episodes that are read with it, of the same iteration or played as well:
    advantages are whitened with theirs, and rloo and reinforce compare with them. Those that share
    a start with it always are; with as many as an iteration has, it is all as in training."""
    shade: Shade = "advantage"
    """What tokens are shaded by: the advantage that the policy learns from, the critic's value
    before the token, its KL from the warm start, or its probability."""
    messages: bool = True
    """Also find which earlier messages replies hung on, which takes a forward for each of them."""
    turn: int | None = None
    """Show one turn alone, numbered from 0, and what becomes of the episode with other messages
    there."""
    say: str | None = None
    """With --turn: a message that takes the place of the agent's."""
    times: int = 32
    """With --turn: number of rollouts after each message, on which the intervals depend."""
    alternatives: int = 3
    """With --turn and no --say: most of the agent's own other messages that are tried, the most
    frequent of 4 times as many samples."""
    json: Path | None = None
    """JSON file for the numbers; none is written if left out."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "episode", self.episode >= 0, "of at least 0")
        expect(self, "seed", 0 <= self.seed < SEEDS, f"of at least 0 and below {SEEDS}")
        expect(self, "temperature", self.temperature >= 0, "of at least 0")
        expect(self, "beside", self.beside >= 0, "of at least 0")
        expect(self, "times", self.times >= 2, "of at least 2")
        expect(self, "alternatives", self.alternatives >= 1, "of at least 1")
        if self.say is not None and self.turn is None:
            raise UserError(
                f"expected --turn with --say, which says where; got --say {self.say!r}; "
                "give the number of a turn"
            )
        if self.iteration is not None and self.split is not None:
            raise UserError(
                "expected --iteration, which reads transcripts, or --split, which plays; got both"
            )


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """Draw the attention of one head over a sentence, with the formula and one weight worked out.

    In a decoder (a model that writes, such as smollm2-135m) a token sees itself and what comes
    before it; in an encoder (a model that reads, such as minilm-l6) it sees the whole sentence.
    Each token has a query q and a key k. How much a token attends to another is
    softmax(q k / sqrt(d)) over all tokens that it sees; the head's output is the mean of their
    values v with these weights.
    """

    sentence: Annotated[str, tyro.conf.Positional]
    """The sentence, in quotes."""
    model: str = "smollm2-135m"
    """Models, comma-separated: names of `rlchat models list`, minilm-l6 (an encoder), folders of an
    encoder or decoder, hub ids, or runs. The model tiny needs no download; its weights are
    random."""
    layer: int | None = None
    """Layer, from 0; below 0 counts from the top. Left out (None), that of the head which looks
    most surely at a token other than itself and the first."""
    head: int | None = None
    """Head, from 0. Left out (None), the one that does so in the layer."""
    from_: Annotated[int | None, tyro.conf.arg(name="from")] = None
    """Number of the token whose weight is worked out; left out (None), the last."""
    to: int | None = None
    """Number of the token that it attends to; left out (None), the one that it attends to most."""
    out: Path | None = None
    """Picture of the same, ending in .png, .svg or .pdf; none is drawn if left out."""
