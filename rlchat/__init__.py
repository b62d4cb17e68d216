"""rlchat: dialogue agents that learn by reinforcement from the user they talk to."""

__version__ = "0.1.0"
