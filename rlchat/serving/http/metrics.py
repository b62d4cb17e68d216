"""What the server counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._registry = registry = CollectorRegistry()
        model = ["model"]
        self.requests = Counter(
            "rlchat_requests",
            "Answered requests, by path and status.",
            ["path", "status"],
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "rlchat_prompt_tokens", "Tokens of prompts.", model, registry=registry
        )
        self.cached_tokens = Counter(
            "rlchat_cached_prompt_tokens",
            "Tokens of prompts that were in memory and not computed again.",
            model,
            registry=registry,
        )
        self.generated_tokens = Counter(
            "rlchat_generated_tokens", "Tokens of replies.", model, registry=registry
        )
        self.cancelled = Counter(
            "rlchat_cancelled_requests",
            "Requests whose client left before the end.",
            model,
            registry=registry,
        )
        self.first_token = Histogram(
            "rlchat_time_to_first_token_seconds",
            "From a request's arrival to the first token of its reply.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self.duration = Histogram(
            "rlchat_request_seconds",
            "From a request's arrival to its end.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Gauge(
            "rlchat_rows",
            "Conversations now: running, waiting for a row, or kept for their next turn.",
            ["model", "state"],
            registry=registry,
        )

    def watch(self, model: str, states: Mapping[str, Callable[[], float]]) -> None:
        """Ask for a number of conversations in each state whenever it is wanted."""
        for state, count in states.items():
            self._rows.labels(model, state).set_function(count)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
