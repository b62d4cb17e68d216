"""rlchat: dialogue agents that learn by reinforcement from the user they talk to."""
