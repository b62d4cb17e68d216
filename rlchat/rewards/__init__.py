"""The reward of each turn in training, and the reward models that it may come from.

Scores of environments are given in `rlchat_envs`; the nets are in `rlchat_reward_models`.
Start with `composite`.
"""
