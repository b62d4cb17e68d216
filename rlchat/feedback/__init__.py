"""rlchat.feedback.export."""
