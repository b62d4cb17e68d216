"""Simulated users: personas, language models as users, and statistics of how users talk.

The agenda of a scenario's user is in the scenario. Start at `personas`.
"""
