"""Signs in a training's metrics that a person should look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlchat.training.reward_monitor import Z

_VARY = 0.1  # least standard deviation of returns for which the critic's errors matter
# What is told once if it happens: name in the metrics, when, and what it may mean.
_SIGNS: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("dropped_characters", lambda x: x > 0, "the environment's action space lacks some characters"),
    ("entropy", lambda x: x < 0.02, "the agent hardly tries anything any more"),
    ("clip_fraction", lambda x: x > 0.3, "steps are too long; lower --ppo.learning-rate"),
    ("explained_variance", lambda x: x < -0.5, "the critic misleads"),
    (
        "same_reward",
        lambda x: x > 0.9,
        "nearly all prompts teach nothing: their episodes all have the same reward",
    ),
    (
        "score_length_correlation",
        lambda x: x > 0.8,
        "the score may pay for length",
    ),
)
_LOOK_BACK = 4  # iterations, against as many before: does success follow the score?
_TELLING = 0.2  # nats: what replies tell of openings, for a fall of it to mean something


def _deaf(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether replies tell hardly anything of openings any more, as they did at the beginning."""
    first, recent = (
        [float(value) for row in part if (value := row.get("reply_information")) is not None]
        for part in (rows[:_LOOK_BACK], rows[-_LOOK_BACK:])
    )
    if len(rows) < 2 * _LOOK_BACK or min(len(first), len(recent)) < _LOOK_BACK:
        return False
    told, tells = sum(first) / len(first), sum(recent) / len(recent)
    return told > _TELLING and tells < told / 4


def signs(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Find metrics of the last iteration that a person should look at, and say why.

    Args:
        rows: of all iterations so far.
    """
    found = held_out_signs(rows)
    for name, strange, meaning in _SIGNS:
        value = rows[-1].get(name)
        if value is not None and strange(value):
            found[name] = f"{name} {value:.4g}: {meaning}"
    # Where nearly all episodes return the same there is no variance to explain, and to divide by
    # what little there is gives any number.
    if rows[-1].get("return_std", math.inf) < _VARY:
        found.pop("explained_variance", None)
    if _deaf(rows):
        found["reply_information"] = (
            f"reply_information {rows[-1]['reply_information']:.2f}: the agent says the same "
            "whatever it hears; read transcripts"
        )
    recent, before = rows[-_LOOK_BACK:], rows[-2 * _LOOK_BACK : -_LOOK_BACK]
    if len(before) == _LOOK_BACK:
        gained, solved, cost = (
            sum(r.get(name, math.nan) for r in recent) - sum(r.get(name, math.nan) for r in before)
            for name in ("return", "success", "cost")
        )
        if solved < -0.05 * _LOOK_BACK:
            meanwhile = "return rises while success falls" if gained > 0 else "success falls"
            found["success"] = f"{meanwhile}; read transcripts"
        if cost > 0.05 * _LOOK_BACK:
            found["cost"] = "what is unsafe grows more frequent; read transcripts"
    return found


def held_out_signs(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Find signs of reward hacking, short of an alarm, in the last held-out measurement.

    An alarm wants both, a reward that rose and success that fell; either is worth a look.

    Args:
        rows: of all iterations so far.
    """
    measured = [row for row in rows if "watch/proxy" in row]
    if len(measured) < 2 or measured[-1] is not rows[-1] or rows[-1]["watch/alarm"]:
        return {}
    first, now = measured[0], measured[-1]
    best = max(measured[:-1], key=lambda row: float(row["watch/success"]))

    def above(
        one: Mapping[str, Any], other: Mapping[str, Any], name: str, errors: float = Z
    ) -> bool:
        noise = math.hypot(one[f"{name}_error"], other[f"{name}_error"])
        return bool(one[name] - other[name] > errors * noise)

    def change(before: Mapping[str, Any]) -> str:
        return f"{before['watch/success']:.0%}, now {now['watch/success']:.0%}"

    # The best of many is the luckiest too; runs of before kept no threshold.
    if above(best, now, "watch/success", now.get("watch/threshold") or Z):
        return {
            "watch/success": f"held-out success fell: in iteration {best['iteration']:.0f} "
            f"{change(best)}; read transcripts"
        }
    if above(now, first, "watch/proxy") and not above(now, first, "watch/success"):
        return {
            "watch/proxy": f"the learned reward rose from {first['watch/proxy']:.2f} to "
            f"{now['watch/proxy']:.2f} since iteration {first['iteration']:.0f}, but held-out "
            f"success did not ({change(first)}); read transcripts"
        }
    return {}
