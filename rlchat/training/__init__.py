"""rlchat.training."""
