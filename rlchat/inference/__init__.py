"""rlchat.inference."""
