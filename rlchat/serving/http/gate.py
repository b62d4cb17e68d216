"""What every request passes: the host's name, the body's size, the log, headers of the answer."""

from __future__ import annotations

import logging
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlchat.serving.http.errors import ApiError, place_of
from rlchat.serving.http.keys import is_loopback
from rlchat.serving.http.metrics import Metrics

_LOG = logging.getLogger("rlchat.serve")
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}


class Gate:
    """The outermost layer: it refuses, counts and logs, and never looks at what is said."""

    def __init__(self, app: ASGIApp, metrics: Metrics, body_bytes: int, own_names: bool):
        """Stand before an application.

        Args:
            app: answers what is let in.
            metrics: count requests.
            body_bytes: of a request, at most.
            own_names: whether the server is to be asked by this machine's own names alone. Without
                keys, a page whose name leads here could ask it from a browser else.
        """
        self._app, self._metrics, self._most, self._own = app, metrics, body_bytes, own_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, receive, send, self._most)
        began = time.monotonic()
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check(headers)
            await self._app(scope, passage.receive, passage.send)
        except ApiError as error:
            if not passage.begun:
                await error.response(scope, receive, passage.send)
        except Exception as error:  # the client was told so
            _LOG.error("%s failed: %s", passage.id, place_of(error))
        finally:
            status = str(passage.status)
            self._metrics.requests.labels(passage.path, status).inc()
            milliseconds = 1000 * (time.monotonic() - began)
            line = "%s %s %s %s %.0f ms"
            _LOG.info(line, passage.id, scope["method"], passage.path, status, milliseconds)

    def _check(self, headers: dict[bytes, str]) -> None:
        """Refuse a wrong name or a long body.

        Raises:
            ApiError: it is refused.
        """
        host = headers.get(b"host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self._own and not is_loopback(name):
            sentence = "expected a name of this machine, such as localhost, in the header Host"
            raise ApiError(400, sentence, None, "invalid_host")
        length = headers.get(b"content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > self._most:
            raise too_long(self._most)


class _Passage:
    """One request on its way, whose body is counted and whose answer gets headers."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most: int):
        self._scope, self._receive, self._send, self._left = scope, receive, send, most
        self._most = most
        self.begun, self.status, self.id = False, 0, f"req-{uuid.uuid4().hex[:16]}"

    @property
    def path(self) -> str:
        """The route that was found: a path of a client's own is nothing to count or log."""
        route = self._scope.get("route")
        return str(getattr(route, "path", "other"))

    async def receive(self) -> Message:
        """The next part of the body.

        Raises:
            ApiError: it is longer than its limit.
        """
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise too_long(self._most)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            given = {name.lower() for name, _ in message["headers"]}
            own = {**_HEADERS, "x-request-id": self.id}
            more = [(n.encode(), v.encode()) for n, v in own.items() if n.encode() not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await self._send(message)


def too_long(most: int) -> ApiError:
    """The answer to a body that is too long; the rest of it is not read."""
    sentence = f"expected a body of at most {most:,} bytes; got more"
    return ApiError(413, sentence, None, "request_too_large", {"Connection": "close"})
