"""What the verdict on a case is worth, the same in every scenario."""

from __future__ import annotations

RIGHT, WRONG = 1.0, -0.5  # walking out counts as wrong


def resolution(verdict: str, right: str) -> float:
    """The world's verdict in score units.

    Args:
        verdict: how the case has ended, or would; empty if it goes on.
        right: the one verdict that solves it.
    """
    if not verdict:
        return 0.0
    return RIGHT if verdict == right else WRONG
