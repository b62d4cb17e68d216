"""rlchat/Support-v0 and rlchat/SupportHard-v0: a retail support desk, in two tiers."""

from rlchat_envs.scenarios.support.hard import SupportHardCase, SupportHardScenario
from rlchat_envs.scenarios.support.scenario import SupportCase, SupportScenario

__all__ = ["SupportCase", "SupportHardCase", "SupportHardScenario", "SupportScenario"]
