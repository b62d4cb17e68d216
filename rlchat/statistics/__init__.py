"""Intervals, tests and sample sizes of evaluations, and running moments: numbers in, numbers out.

Nothing here knows agents, episodes or files; it needs numpy alone.
Start with `intervals`; docs/method/evaluation.md says how often each interval holds the truth.
"""

from rlchat.statistics.clusters import by_cluster, pass_power
from rlchat.statistics.intervals import Interval, Z, mean_interval, paired, wilson
from rlchat.statistics.moments import RunningStd

__all__ = [
    "Interval",
    "RunningStd",
    "Z",
    "by_cluster",
    "mean_interval",
    "paired",
    "pass_power",
    "wilson",
]
