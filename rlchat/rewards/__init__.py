"""rlchat.rewards.composite."""
