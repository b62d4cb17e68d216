"""Saving and investing: advice on product classes, and questions that need a fact."""

from rlchat_envs.scenarios.finance.facts_scenario import FinanceFactsScenario
from rlchat_envs.scenarios.finance.scenario import FinanceScenario

__all__ = ["FinanceFactsScenario", "FinanceScenario"]
