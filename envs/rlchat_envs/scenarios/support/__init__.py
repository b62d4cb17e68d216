"""rlchat/Support-v0, SupportHard-v0 and SupportTools-v0: a retail support desk in three forms."""

from rlchat_envs.scenarios.support.hard import SupportHardCase, SupportHardScenario
from rlchat_envs.scenarios.support.scenario import SupportCase, SupportScenario
from rlchat_envs.scenarios.support.tools import SupportToolsCase, SupportToolsScenario

__all__ = [
    "SupportCase",
    "SupportHardCase",
    "SupportHardScenario",
    "SupportScenario",
    "SupportToolsCase",
    "SupportToolsScenario",
]
