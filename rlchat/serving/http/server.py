"""The server: its socket, its signals, and connections that never say what they want."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from rlchat.errors import UserError
from rlchat.serving.http.errors import ApiError

if TYPE_CHECKING:  # which brings torch: that an address is taken is told before
    from rlchat.serving.http.service import Service

_LEAST_WAIT = 0.5  # seconds in which last answers are written


def open_socket(host: str, port: int) -> socket.socket:
    """Take an address, so that nobody waits for models before it is known to be free.

    Raises:
        UserError: it is not free, or none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
        except OSError:
            taken.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"expected an address of this machine that is free; got {host}:{port} ({reason}); "
            "name another with --port or --host, or end what uses it"
        ) from None
    return taken


def make_server(
    app: ASGIApp,
    service: Service,
    started: Callable[[], None] = lambda: None,
    leaving: Callable[[int], None] = lambda running: None,
) -> uvicorn.Server:
    """Make a server; its ``run(sockets=[...])`` answers until SIGTERM or Ctrl-C.

    Then running replies are finished, and new ones refused.

    Args:
        app: answers.
        service: is told to take no more.
        started: called once requests are answered.
        leaving: told how many replies are waited for.
    """
    config = uvicorn.Config(
        app,
        http=_protocol(service.limits.read_s),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
    )
    return _Server(config, service, started, leaving)


class _Server(uvicorn.Server):
    """A server of uvicorn's, which goes on answering while replies are finished."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        started: Callable[[], None],
        leaving: Callable[[int], None],
    ):
        super().__init__(config)
        self._service, self._begun, self._leaving = service, started, leaving
        self._until = 0.0  # when running replies are left

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self.started:
            self._begun()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends at once."""
        if self._service.draining:
            self._until = 0.0
            self.force_exit = sig == signal.SIGINT
            return
        running = sum(len(model.live) for model in self._service.models.values())
        self._until = time.monotonic() + self._service.limits.drain_s
        self._service.draining = True
        if running:
            self._leaving(running)

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now."""
        service = self._service
        if service.draining and (service.idle or time.monotonic() >= self._until):
            if not service.idle:
                service.batcher.close()  # which ends all replies, so that their clients are told
                await asyncio.sleep(_LEAST_WAIT)
            self.should_exit = True
        return await super().on_tick(counter)


def _protocol(timeout_s: float) -> type[asyncio.Protocol]:
    """The protocol of HTTP/1.1 with a limit of the time in which headers come."""

    class Protocol(H11Protocol):
        """One connection."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """Wait for headers."""
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            """Wait for the rest of the headers, or no more if all are there."""
            super().data_received(data)
            if self._asked:
                self._rest()
            else:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            """Wait for nothing."""
            self._rest()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            """Answer what is no HTTP."""
            sentence = "expected a request of HTTP/1.1; got something else"
            body = json.dumps(ApiError(400, sentence, None, "invalid_http").body).encode()
            headers = [("content-type", "application/json"), ("connection", "close")]
            headers.append(("content-length", str(len(body))))
            answer = (h11.Response(status_code=400, headers=headers), h11.Data(data=body))
            for event in (*answer, h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        @property
        def _asked(self) -> bool:
            """Whether a request's headers are there, and its answer is not whole yet."""
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(timeout_s, self._give_up)

        def _rest(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if not self._asked and not self.transport.is_closing():
                self.transport.close()

    return Protocol
