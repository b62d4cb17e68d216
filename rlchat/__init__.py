"""rlchat: dialogue agents that learn by reinforcement from the user they talk to."""

import os as _os

from rlchat.processors import choose_threads as _choose_threads

# Before torch is loaded, whichever way rlchat is entered: command, script, launcher or import.
_choose_threads(_os.environ)
