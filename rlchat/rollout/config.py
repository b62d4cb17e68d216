"""How episodes are played: budgets and engine."""

from __future__ import annotations

from dataclasses import dataclass

from rlchat.errors import UserError
from rlchat.inference.engine import EngineName
from rlchat.settings import expect


@dataclass(frozen=True)
class RolloutConfig:
    """How episodes are played."""

    rows: int = 64
    """Conversations in flight."""
    max_new_tokens: int = 48
    """Budget of one turn, in tokens."""
    max_tokens: int = 768
    """Budget of one episode, in tokens; it is truncated beyond."""
    cut_off_penalty: float = 0.2
    """Taken from the score of a turn that ran out of tokens."""
    workers: int = 0
    """Threads in which slow users (a server, say) answer side by side, each waited for alone; with
    0 they answer in turn, which keeps a run repeatable to the bit."""
    engine: EngineName = "own"
    """What speaks: own, or paged, transformers' continuous batching, which is made for GPUs."""

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        for name in ("rows", "max_new_tokens"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        for name in ("cut_off_penalty", "workers"):
            expect(self, name, getattr(self, name) >= 0, "of at least 0")
        if self.max_tokens < 2 * self.max_new_tokens:
            raise UserError(
                f"expected max_tokens of at least two turns ({2 * self.max_new_tokens}); got "
                f"{self.max_tokens}"
            )
