"""Settings of the server: how it generates, and what a client may ask of it."""

from __future__ import annotations

from dataclasses import dataclass

from rlchat.models.templates.thoughts import check_thinking
from rlchat.settings import expect

MOST_STOPS, MOST_STOP_LETTERS = 4, 256  # as OpenAI has them, but for the length
MOST_TOP_LOGPROBS = 20


@dataclass(frozen=True)
class GenerationConfig:
    """Settings of generation, where a request leaves them out or may not exceed them."""

    rows: int = 16
    """Number of replies of an agent that are generated at the same time, as rows of one batch;
    further ones wait."""
    kept: int = 16
    """Number of conversations of an agent whose keys and values stay in memory after a reply, so
    that the next turn reads only what is new."""
    max_tokens: int = 2048
    """Most tokens of a conversation with its reply; less where the model's positions end."""
    max_new_tokens: int = 48
    """Most tokens of a reply whose request does not say max_tokens; agents are trained with 48."""
    temperature: float = 1.0
    """Sampling temperature of a request that does not say one: 0 is greedy; 1 is how agents are
    trained."""
    thinking: str = ""
    """Whether agents think before they reply, if their chat template knows thoughts: off, on, or a
    number of tokens that a thought may have. If empty, as the agent was trained, else off."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name, least in (("rows", 1), ("kept", 0), ("max_tokens", 16), ("max_new_tokens", 1)):
            expect(self, name, getattr(self, name) >= least, f"of at least {least}")
        expect(self, "temperature", 0 <= self.temperature <= 2, "from 0 to 2")
        check_thinking(self.thinking)


@dataclass(frozen=True)
class Limits:
    """Limits of what clients may ask."""

    body_bytes: int = 1_000_000
    """Most bytes of a request's body; a larger one is refused (413) before it is read."""
    messages: int = 256
    """Most messages of a conversation."""
    choices: int = 8
    """Most replies of one request (n)."""
    waiting: int = 64
    """Most replies that wait for a free row; a request that would wait longer is refused (429)
    with Retry-After."""
    request_s: float = 300.0
    """Seconds that a request may take, waiting included."""
    read_s: float = 10.0
    """Seconds in which a client has to send the headers of a request, and again its body."""
    drain_s: float = 30.0
    """Seconds that running replies have to end after SIGTERM or Ctrl-C."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name in ("body_bytes", "messages", "choices"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        expect(self, "waiting", self.waiting >= 0, "of at least 0")
        for name in ("request_s", "read_s"):
            expect(self, name, getattr(self, name) > 0, "above 0")
        expect(self, "drain_s", self.drain_s >= 0, "of at least 0")
