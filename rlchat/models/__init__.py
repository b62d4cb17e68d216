"""rlchat.models.catalog."""
