"""A baseline of every world that must fail: manners and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlchat_envs.core.messages import Conversation


class PoliteRepeater:
    """Says one kind sentence, for ever."""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Be kind."""
        return "Thank you so much for your patience, I am happy to help you with that."
