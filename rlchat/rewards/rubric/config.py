"""Settings of a judge."""

from __future__ import annotations

from dataclasses import dataclass

from rlchat.errors import UserError
from rlchat.settings import DTypeName, expect

LEAST = 64  # tokens of a conversation that a judge has to be able to read
RUBRIC = "rubric"  # what all answers come to together, as a metric and as a part of the reward


@dataclass(frozen=True)
class JudgeConfig:
    """How a judge reads conversations, and how it is run."""

    max_tokens: int = 4096
    """Most tokens of a conversation that the judge reads; of a longer one the middle is left out,
    which is told. At an endpoint four characters count as a token."""
    max_new_tokens: int = 1024
    """Most tokens that an endpoint may write for one answer, thoughts included."""
    workers: int = 8
    """Number of conversations that an endpoint is asked about at a time."""
    dtype: DTypeName = "auto"
    """Precision in which a local judge computes; auto measures which is faster on this machine."""
    device: str = "auto"
    """Torch device of a local judge, such as cpu or cuda:0; auto takes a GPU if there is one."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "max_tokens", self.max_tokens >= LEAST, f"of at least {LEAST}")
        for name in ("max_new_tokens", "workers"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")


def check_both(rubric: str, judge: str, of: str = "") -> None:
    """Refuse a rubric without a judge, or a judge without a rubric.

    Args:
        rubric: named by an option.
        judge: likewise.
        of: what stands before the names of both options, as in ``reward.``.

    Raises:
        UserError: one of them is missing.
    """
    if rubric and not judge:
        raise UserError(
            f"expected --{of}judge with --{of}rubric; got none; name a model that answers the "
            "questions"
        )
    if judge and not rubric:
        raise UserError(
            f"expected --{of}rubric with --{of}judge; got none; name a YAML file, or default"
        )
