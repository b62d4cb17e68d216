"""rlchat_envs.nlu."""
