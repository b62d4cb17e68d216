"""rlchat.cli.main."""
