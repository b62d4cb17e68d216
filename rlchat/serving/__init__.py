"""Live conversations of people with agents: replies as they come, look-ups and scores.

Terminals are in `rlchat.cli`, ratings in `rlchat.feedback`.
Start with `session`.
"""
