"""Measuring agents: the same users for every agent, and intervals for what they achieve.

Nothing here trains; who is measured comes from `rlchat.inference`.
Start with `evaluate`.
"""
