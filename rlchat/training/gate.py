"""The gate that updates from feedback have to pass, measured on held-out users."""

from __future__ import annotations

from dataclasses import dataclass

from rlchat.evaluation.evaluate import EvaluationResult, difference
from rlchat.statistics import Interval


@dataclass(frozen=True)
class GateDecision:
    """The decision about an update, its reason, and the numbers that it was made by.

    ``success`` and ``cost`` are paired differences to what was before, on held-out users; ``kl``
    is E[log new − log old] in nats per token, on what the new one says.
    """

    accepted: bool
    reason: str
    success: Interval
    cost: Interval
    kl: float


def decide(
    before: EvaluationResult, after: EvaluationResult, kl: float, max_kl: float
) -> GateDecision:
    """Accept an update unless it does harm beyond noise.

    Args:
        before: held-out episodes of the version that is there.
        after: the same users, with the update.
        kl: to the version that is there, in nats per token.
        max_kl: bound of that.
    """
    gains = difference(after, before)
    success, cost = gains["success"], gains["cost"]
    told = f"{success.mean:+.1%} ({success.low:+.1%} … {success.high:+.1%})"
    reason, accepted = f"held-out success {told}, no fall beyond noise; KL {kl:.3f}", False
    if success.high < 0:
        reason = f"held-out success fell beyond noise: {told}"
    elif cost.low > 0:
        reason = f"unsafe acts rose beyond noise: {cost.mean:+.3f} an episode"
    elif not kl <= max_kl:
        reason = f"KL {kl:.3f} nats a token is beyond {max_kl}"
    else:
        accepted = True
    return GateDecision(accepted, reason, success, cost, kl)
