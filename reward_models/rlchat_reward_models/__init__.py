"""What a reply is worth: rules, reward models learned from preferences, and style features.

Nothing here knows agents or training by PPO: that is in `rlchat.rewards`. Importing the package
loads no torch. Start reading in `preferences`, then `reward_model`, `training` and `scorer`.
"""

from rlchat_reward_models.rules import RULES, RuleScorer, RuleWeights

__all__ = ["RULES", "RuleScorer", "RuleWeights"]
