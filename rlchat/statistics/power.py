"""How many episodes a difference needs, and when enough were played."""

from __future__ import annotations

import math
from statistics import NormalDist

from rlchat.statistics.intervals import Z

POWER = 0.8
FIRST_LOOK = 50  # episodes before which no width is believed
_GROWTH = 1.25  # from one look to the next


def episodes_needed(difference: float, discordance: float, power: float = POWER) -> int:
    """How many paired episodes show a difference of success, two-sided at 5% (Connor 1987).

    Args:
        difference: of the rates of success of two agents on the same users.
        discordance: the share of users with whom one agent alone succeeds; at least as large as
            the difference, which it is taken for if it is less.
        power: the chance that the test sees it.
    """
    d, share = abs(difference), max(discordance, abs(difference))
    quantile = NormalDist().inv_cdf(power)
    return math.ceil((Z * math.sqrt(share) + quantile * math.sqrt(share - d * d)) ** 2 / (d * d))


def looks(most: int, block: int = 1) -> list[int]:
    """Numbers of episodes after which an interval's width is looked at.

    They are fixed beforehand, the first is not early, and each is a quarter above the one before:
    few looks, so that stopping at the first narrow interval leaves its coverage where it was.

    Args:
        most: episodes at most; always the last look.
        block: episodes that are played together.
    """
    found: list[int] = []
    at = float(FIRST_LOOK)
    while (n := math.ceil(at / block) * block) < most:
        if not found or n > found[-1]:
            found.append(n)
        at *= _GROWTH
    return [*found, most]
