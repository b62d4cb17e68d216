"""rlchat/SupportHard-v0: a support desk with several problems, contradictions and exceptions."""

from rlchat_envs.scenarios.support.hard.scenario import SupportHardCase, SupportHardScenario

__all__ = ["SupportHardCase", "SupportHardScenario"]
