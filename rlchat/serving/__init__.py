"""rlchat.serving."""
