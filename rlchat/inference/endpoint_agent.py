"""An agent whose replies come from an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rlchat.inference.openai_client import Endpoint, NothingSaid
from rlchat_envs import Conversation

if TYPE_CHECKING:  # as in models.py: whoever only asks what there is should not wait for torch
    pass


class EndpointAgent:
    """The agent ``openai:MODEL@URL`` in one conversation: a server's model, as it is."""

    def __init__(self, endpoint: Endpoint, seed: int, temperature: float = 0.0):
        """Ask ``endpoint`` what to say.

        Args:
            endpoint: the model.
            seed: of the seeds that it is asked with, one a turn.
            temperature: 0 is greedy.
        """
        self._endpoint, self._temperature = endpoint, temperature
        self._rng = np.random.default_rng(seed)

    def reply(self, conversation: Conversation, hidden: Mapping[str, Any]) -> str:
        """Say the next message; ``hidden`` is never looked at.

        Raises:
            EndpointError: no usable answer; a silent one is a message without words.
        """
        try:
            seed = int(self._rng.integers(2**31))
            return self._endpoint.ask(conversation, seed, self._temperature)
        except NothingSaid:
            return ""
