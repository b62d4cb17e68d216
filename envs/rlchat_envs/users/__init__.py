"""Simulated users: personas, the agenda-based user, language models as users, and statistics.

What a scenario's own user knows and says is in the scenario. Start at `personas`, then `agenda`.
"""
