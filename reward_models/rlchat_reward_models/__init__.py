"""What a turn is worth: rules without torch; learned scorers join them here."""

from rlchat_reward_models.rules import RULES, RuleScorer, RuleWeights

__all__ = ["RULES", "RuleScorer", "RuleWeights"]
