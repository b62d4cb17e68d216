"""An agent whose replies come from an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlchat.inference.agents import ConversationSettings, OnText, Reply, ReplyStream
from rlchat.inference.openai_client import Endpoint, NothingSaid
from rlchat.inference.streaming import pass_on
from rlchat.models.templates.call_formats import to_canonical
from rlchat_envs import Conversation, declared


@dataclass(frozen=True)
class EndpointAgent:
    """The agent ``openai:MODEL@URL``: a server's model, as it is."""

    name: str
    endpoint: Endpoint

    @property
    def version(self) -> str:
        """The agent's name: what the server changes is not known here."""
        return self.name

    @property
    def batched(self) -> None:
        """None: a server replies one conversation at a time."""

    def start(self, seed: int, settings: ConversationSettings) -> EndpointConversation:
        """Start a conversation; the server is asked with seeds of its own, one a turn."""
        return EndpointConversation(self.endpoint, seed, settings.temperature)


class EndpointConversation:
    """A server's side of one conversation."""

    def __init__(self, endpoint: Endpoint, seed: int, temperature: float = 0.0):
        """Begin a conversation with the model behind ``endpoint``.

        Args:
            endpoint: the model.
            seed: of the seeds that it is asked with, one a turn.
            temperature: 0 is greedy.
        """
        self._endpoint, self._temperature = endpoint, temperature
        self._rng = np.random.default_rng(seed)

    @property
    def resampler(self) -> None:
        """None: a server is not asked twice."""

    def reply(
        self, conversation: Conversation, privileged: Mapping[str, Any], on_text: OnText
    ) -> Reply:
        """Give the next message; ``privileged`` is never looked at.

        Raises:
            EndpointError: no usable answer; a silent one is a message without words.
        """
        return pass_on(self.stream(conversation, privileged), on_text)

    def stream(self, conversation: Conversation, privileged: Mapping[str, Any]) -> ReplyStream:
        """Give the next message in one piece; see `reply`."""
        seed = int(self._rng.integers(2**31))
        try:
            text = self._endpoint.ask(conversation, seed, self._temperature)
        except NothingSaid:
            text = ""
        if tools := declared(conversation):
            text = to_canonical(text, tools)  # some servers leave calls in the text
        with suppress(KeyboardInterrupt):  # the whole message is there already
            yield text
        return Reply(text)
