"""Verbs that look into runs: what came of them, shown in files and on the terminal.

What is shown is found out in `rlchat.evaluation`. Start with `report`.
"""
