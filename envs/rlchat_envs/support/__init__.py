"""rlchat/Support-v0: a retail support desk."""

from rlchat_envs.support.scenario import SupportCase, SupportScenario

__all__ = ["SupportCase", "SupportScenario"]
