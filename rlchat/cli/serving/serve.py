"""Verbs `serve …`: agents behind an OpenAI-compatible server, and keys for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from rlchat.errors import UserError
from rlchat.models.config import AdapterConfig
from rlchat.serving.http.config import GenerationConfig, Limits
from rlchat.settings import expect

_NEEDED = ("fastapi", "uvicorn", "h11", "prometheus_client")


@dataclass(frozen=True)
class ServeOptions:
    """Serve agents as OpenAI's chat completions: any client of OpenAI's API can talk to them.

    Requests are answered at http://HOST:PORT/v1, together in one batch; /docs shows what they may
    ask, /health and /metrics how the server fares. A conversation goes on from what is in memory
    of it. With the same seed and temperature a reply is that of rlchat chat --env ''. SIGTERM and
    Ctrl-C let running replies end. Try: rlchat serve starter, then
    curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json'
    -d '{"model": "starter", "messages": [{"role": "user", "content": "Where is my parcel?"}]}'
    """

    agents: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Agents to serve: run or adapter folders, starter, starter:warm-start, base. NAME=AGENT gives
    one another name for clients, as in desk=runs/demo. Adapters over one base share its weights."""
    host: str = "127.0.0.1"
    """Address that is listened at; one that others can reach needs --keys."""
    port: int = 8000
    """Port that is listened at; 0 takes a free one."""
    keys: Path | None = None
    """File with hashes of API keys, as `rlchat serve key FILE` writes it; keys in the variable
    RLCHAT_API_KEYS count too. With neither, no key is asked for."""
    log_text: bool = False
    """Log what is said. Without it the log has ids, paths, statuses and times alone."""
    policy: str = "smollm2-135m"
    """The model that the agent `base` stands for: a name of `rlchat models list`, a Hugging Face id
    or a folder."""
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    limits: Limits = field(default_factory=Limits)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        if not self.agents:
            raise UserError("expected at least one agent to serve; got none; try starter")
        expect(self, "port", 0 <= self.port < 65536, "from 0 to 65535")
        names = [name for name, _ in self.named]
        if nameless := [agent for agent in self.agents if agent.startswith("=")]:
            raise UserError(f"expected NAME=AGENT with a name; got {nameless[0]!r}")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(
                f"expected each agent once; got {twice!r} twice; NAME=AGENT renames one"
            )

    @property
    def named(self) -> list[tuple[str, str]]:
        """What clients call each agent, and the agent."""
        parted = [agent.partition("=") for agent in self.agents]
        return [(name, agent) if equals else (name, name) for name, equals, agent in parted]


@dataclass(frozen=True)
class KeyOptions:
    """Make an API key for `rlchat serve --keys FILE`: it is shown once, and its hash is kept."""

    file: Annotated[Path, tyro.conf.Positional]
    """File that the hash is appended to; it is made if it is not there, for its owner alone."""
    name: str = ""
    """Name that is written beside the hash, to know it by when the line is removed again."""


def run_key(options: KeyOptions, console: Console) -> None:
    """Make a key, and print it.

    Raises:
        UserError: the file cannot be written.
    """
    from rlchat.serving.http.keys import make_key

    console.print(make_key(options.file, options.name), markup=False, highlight=False)


def run_serve(options: ServeOptions, console: Console) -> None:
    """Load agents, and serve them until somebody ends it.

    Raises:
        UserError: an agent that is none, an address that is taken, or no key where one is needed.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            f"expected the packages of the server; {', '.join(missing)} is not installed; run pip "
            "install 'rlchat[serve]'"
        )
    from rlchat.serving.http.keys import check_reach, is_loopback, read_keys
    from rlchat.serving.http.server import open_socket

    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    keys = read_keys(options.keys)
    check_reach(options.host, keys)
    with open_socket(options.host, options.port) as taken:
        say("loading libraries")
        from rlchat.inference.load_agent import load_model_agents

        names, agents = [name for name, _ in options.named], [agent for _, agent in options.named]
        loaded = load_model_agents(agents, options.policy, _whole_messages(options), say)
        from rlchat.serving.http.app import make_app
        from rlchat.serving.http.server import make_server
        from rlchat.serving.http.service import Service

        service = Service(list(zip(names, loaded, strict=True)), options.generation, options.limits)
        app = make_app(service, keys, is_loopback(options.host), options.log_text)
        _log_to_stderr()
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{host}:{taken.getsockname()[1]}"

        def started() -> None:
            say(
                f"Serving {', '.join(names)} on {address}/v1 ({address}/docs explains; Ctrl-C ends)"
            )

        def leaving(running: int) -> None:
            say(f"waiting for {running} replies; Ctrl-C again ends at once")

        try:
            make_server(app, service, started, leaving).run(sockets=[taken])
        finally:
            service.close()
    say("Goodbye.")


def _whole_messages(options: ServeOptions) -> AdapterConfig:
    """Settings with which messages are read whole: what is too long is refused, and not cut."""
    given = options.adapter.max_message_tokens
    return replace(options.adapter, max_message_tokens=given or options.generation.max_tokens)


def _log_to_stderr() -> None:
    """Show the server's log: a line a request."""
    log = logging.getLogger("rlchat.serve")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
