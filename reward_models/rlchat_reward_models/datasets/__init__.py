"""Published data sets of people's ratings, read as preferences.

The format of preferences and files of one's own are in `rlchat_reward_models.preferences`.
"""
