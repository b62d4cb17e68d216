"""rlchat_envs.baselines."""
