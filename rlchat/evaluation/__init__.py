"""rlchat.evaluation."""
