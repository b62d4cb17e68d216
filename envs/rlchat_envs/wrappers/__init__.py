"""rlchat_envs.wrappers."""
