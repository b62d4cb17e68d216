"""Verbs `explain` and `explain attention`: what they read, and how it is shown in a terminal.

What is shown is computed in `rlchat.training.inspection` and `rlchat.evaluation.attribution`.
Start with `episode`.
"""
