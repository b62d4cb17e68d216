"""Environments as agents meet them, the episodes played in them, and their trajectories.

Nothing here learns; agents come from `rlchat.inference`, rewards are added by `rlchat.rewards`.
Start with `environment`, then `collect` (batched) and `episodes` (any agent).
"""
