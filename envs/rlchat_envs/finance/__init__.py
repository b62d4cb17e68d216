"""Saving and investing: advice on product classes, and questions that need a fact."""

from rlchat_envs.finance.facts import FinanceFactsScenario
from rlchat_envs.finance.scenario import FinanceScenario

__all__ = ["FinanceFactsScenario", "FinanceScenario"]
