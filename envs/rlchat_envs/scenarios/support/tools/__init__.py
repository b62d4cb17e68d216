"""The desk that calls functions: it knows what it looks up, and nothing is shown to it unasked."""

from rlchat_envs.scenarios.support.tools.scenario import SupportToolsCase, SupportToolsScenario

__all__ = ["SupportToolsCase", "SupportToolsScenario"]
