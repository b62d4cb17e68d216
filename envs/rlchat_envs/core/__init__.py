"""Messages, spaces, the Gymnasium environment of a dialogue, and what a scenario has to offer.

No scenario, user or knowledge index is here. Start reading at `env.DialogueEnv`, then `protocols`.
"""
