"""rlchat_envs.users.personas."""
