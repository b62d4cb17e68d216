"""Simulated users: personas, language models as users, and statistics of how users talk.

What a scenario's own user knows and says is in the scenario. Start at `personas`.
"""
