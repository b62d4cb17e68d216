"""rlchat.algorithms."""
