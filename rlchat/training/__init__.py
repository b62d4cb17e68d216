"""Trainings from start to end: PPO's loop, SFT, KTO, run folders, updates from feedback.

The mathematics of one update is in `rlchat.algorithms`.
Start with `loop`, then `pipeline` (everything around it).
"""
