"""Settings of what a turn is worth in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlchat.errors import UserError
from rlchat.settings import DTypeName, expect

PLAIN = {"world": 1.0, "rules": 1.0}


@dataclass(frozen=True)
class RewardConfig:
    """What a turn is worth in training."""

    model: Path | None = None
    """Folder of a reward model, as rlchat reward train writes it; its score alone is the reward
    then, unless weights are given. Left out (None), the environment's score is the reward."""
    weights: str = ""
    """Weights of the parts of the reward, as in world=1,learned=0.5: world (progress, resolution),
    rules (courtesy, brevity, …), learned, style, sentiment, toxicity, or one part by its name; if
    empty, the usual ones."""
    person: str = ""
    """Name of the person whose preferred style is rewarded, learned from their comparisons of
    replies (rlchat feedback style); with a weight of 1 unless weights are given. Nobody if
    empty."""
    shape: Literal["plain", "log-sigmoid"] = "plain"
    """Scale of the reward model's score: plain is in standard deviations from the reference
    policy's average; log-sigmoid is the log-probability of beating that average, which is never
    above 0."""
    granularity: Literal["auto", "turn", "conversation"] = "auto"
    """What the reward model scores: turn is every reply in its context; conversation is the whole,
    whose score is the reward of the last turn; auto is what the model learned from."""
    cost_limit: float | None = None
    """Allowed mean cost (unsafe acts) of an episode; what goes beyond lowers the reward by a
    Lagrange multiplier that adapts. Left out (None), costs do not count."""
    cost_rate: float = 0.5
    """Step of the Lagrange multiplier of costs: it moves by this times the excess each
    iteration."""
    dtype: DTypeName = "auto"
    """Precision in which the reward model computes; auto measures which is faster on this
    machine."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        if self.cost_limit is not None:
            expect(self, "cost_limit", self.cost_limit >= 0, "of at least 0")
        expect(self, "cost_rate", self.cost_rate > 0, "above 0")
        if self.model is None and self.weighed.get("learned"):
            raise UserError("expected --reward.model with a weight for learned; got none")
        if not self.person and self.weighed.get("style"):
            raise UserError("expected --reward.person with a weight for style; got none")

    @property
    def weighed(self) -> Mapping[str, float]:
        """Parts or groups of parts, and what they count.

        Raises:
            UserError: they cannot be read.
        """
        found = {"style": 1.0} if self.person else {}
        if not self.weights:
            return (PLAIN if self.model is None else {"learned": 1.0}) | found
        for entry in self.weights.split(","):
            name, _, value = (piece.strip() for piece in entry.partition("="))
            try:
                found[name] = float(value)
            except ValueError:
                raise UserError(
                    f"expected weights such as world=1,learned=0.5; got {entry.strip()!r}"
                ) from None
        return found

    @property
    def learned(self) -> bool:
        """Whether a learned score counts."""
        return bool(self.weighed.get("learned"))
