"""A server of tiny agents in a thread, and clients for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from rlchat.inference.model_agent import ModelAgent
from rlchat.serving.http.app import make_app
from rlchat.serving.http.config import GenerationConfig, Limits
from rlchat.serving.http.keys import Keys
from rlchat.serving.http.server import make_server, open_socket
from rlchat.serving.http.service import Service


@dataclass
class Running:
    """A server that answers."""

    service: Service
    server: uvicorn.Server
    port: int
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def openai(self, key: str = "none", **settings: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **settings)

    def post(self, **request: Any) -> httpx.Response:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], **request}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60)

    def end(self) -> None:
        self.server.handle_exit(signal.SIGTERM, None)
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.service.close()


Serve = Callable[..., Running]


@contextmanager
def running(
    agent: ModelAgent, generation: GenerationConfig, limits: Limits, keys: Keys, log_text: bool
) -> Iterator[Running]:
    service = Service([("tiny", agent)], generation, limits)
    started = threading.Event()
    app = make_app(service, keys, True, log_text)
    server = make_server(app, service, started.set)
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
        thread.start()
        assert started.wait(30)
        found = Running(service, server, port, thread)
        yield found
        if thread.is_alive():
            found.end()


@pytest.fixture(scope="session")
def agent(make_policy: Callable[..., Any]) -> ModelAgent:
    made = ModelAgent.of(make_policy(), name="tiny", version="0123456789abcdef")
    made.template.cuts.most = 4096  # as `rlchat serve` has it: what is too long is refused
    return made


@pytest.fixture
def serve(agent: ModelAgent) -> Iterator[Serve]:
    """Start a server; it ends with the test."""
    with ExitStack() as stack:

        def start(keys: Keys | None = None, log_text: bool = False, **settings: Any) -> Running:
            names = GenerationConfig.__dataclass_fields__
            generation = {k: v for k, v in settings.items() if k in names}
            limits = {"drain_s": 1.0} | {k: v for k, v in settings.items() if k not in names}
            made = GenerationConfig(**generation), Limits(**limits), keys or Keys(), log_text
            return stack.enter_context(running(agent, *made))

        yield start


@pytest.fixture(scope="module")
def server(agent: ModelAgent) -> Iterator[Running]:
    """A server with the usual settings, for tests that leave it as it was."""
    with running(agent, GenerationConfig(), Limits(drain_s=1.0), Keys(), False) as found:
        yield found
