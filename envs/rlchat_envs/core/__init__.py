"""rlchat_envs.core."""
