"""The endpoint of chat completions: a request in, an answer or a stream of chunks out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from rlchat.serving.http.choice import Piece
from rlchat.serving.http.config import Limits
from rlchat.serving.http.errors import ApiError, closing, failed, timed_out
from rlchat.serving.http.replies import DONE, Writer, event
from rlchat.serving.http.service import Job, Service
from rlchat.serving.http.wire import read_request

_LOG = logging.getLogger("rlchat.serve")
_GONE = 499  # of nobody: the client has left


async def complete(service: Service, connection: Request, log_text: bool) -> Response:
    """Answer a request for a chat completion.

    Raises:
        ApiError: it is refused or failed.
    """
    began = time.monotonic()
    if service.draining:
        raise closing()
    request = read_request(await _body(connection, service.limits), service.limits.messages)
    job = await service.begin(request, began)
    writer = Writer(
        job.model.name,
        job.model.agent.version,
        job.model.template.tokenizer,
        job.prompt,
        bool(request.logprobs),
        bool(request.return_token_ids),
    )
    pieces = _noted(job, writer.id) if log_text else job.pieces()
    deadline = asyncio.get_running_loop().time() + service.limits.request_s

    def over() -> None:
        service.cancel(job)

    if request.stream:
        usage = bool(request.stream_options and request.stream_options.include_usage)
        chunks = _chunks(pieces, writer, usage, deadline, service.limits.request_s)
        return EventStream(chunks, over, deadline)
    try:
        async with asyncio.timeout_at(deadline):
            answer = await _unless_gone(_whole(job, pieces, writer), connection.receive)
    except TimeoutError:
        raise timed_out(service.limits.request_s) from None
    finally:
        over()
    return Response(status_code=_GONE) if answer is None else JSONResponse(answer)


class EventStream(Response):
    """Server-sent events; a client that leaves ends what makes them at once."""

    def __init__(self, events: AsyncIterator[bytes], over: Callable[[], None], deadline: float):
        """Send nothing yet.

        Args:
            events: are sent as they come.
            over: called when nobody takes any more.
            deadline: of the loop's clock, after which a client that does not read is left.
        """
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        del self.headers["content-length"]
        self._events, self._over, self._deadline = events, over, deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events."""
        try:
            async with asyncio.timeout_at(self._deadline + 1):
                await _unless_gone(self._write(send), receive)
        finally:
            self._over()

    async def _write(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async for data in self._events:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(connection: Request, limits: Limits) -> bytes:
    """Read a request's body, whose length the gate limits.

    Raises:
        ApiError: it takes too long, or is of another type.
    """
    kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # A page of another site can send other types without asking the browser's user.
        sentence = f"expected Content-Type: application/json; got {kind[:60] or 'none'}"
        raise ApiError(415, sentence, None, "unsupported_media_type")
    try:
        async with asyncio.timeout(limits.read_s):
            return await connection.body()
    except TimeoutError:
        sentence = f"expected the whole body within {limits.read_s:g} s; it did not come"
        raise ApiError(408, sentence, None, "timeout", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise ApiError(_GONE, "the client has left") from None


async def _unless_gone(work: Any, receive: Receive) -> Any:
    """Do some work unless the client leaves before it is done; then give None."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _whole(job: Job, pieces: AsyncIterator[Piece], writer: Writer) -> dict[str, Any]:
    """The whole answer.

    Raises:
        ApiError: generation failed.
    """
    found: list[list[Piece]] = [[] for _ in job.choices]
    async for piece in pieces:
        if piece.ended is not None and piece.ended.reason == "error":
            raise failed()
        found[piece.index].append(piece)
    return writer.whole(found)


async def _chunks(
    pieces: AsyncIterator[Piece], writer: Writer, usage: bool, deadline: float, seconds: float
) -> AsyncIterator[bytes]:
    """The answer in chunks; a failure is the last of them, as the status was sent before."""
    seen: list[Piece] = []
    begun: set[int] = set()
    try:
        async for piece in _in_time(pieces, deadline):
            if piece.ended is not None and piece.ended.reason == "error":
                raise failed()
            if piece.index not in begun:
                begun.add(piece.index)
                yield writer.first_chunk(piece.index)
            seen.append(piece)
            yield writer.chunk(piece)
    except TimeoutError:
        yield event(timed_out(seconds).body)
        return
    except ApiError as error:
        yield event(error.body)
        return
    if usage:
        yield writer.last_chunk(seen)
    yield DONE


async def _in_time(pieces: AsyncIterator[Piece], deadline: float) -> AsyncIterator[Piece]:
    """Pieces as they come; how long they are then looked at does not count.

    Raises:
        TimeoutError: the next one does not come in time.
    """
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        yield piece


async def _noted(job: Job, id: str) -> AsyncIterator[Piece]:
    """The pieces of a request, whose words are logged when all have come."""
    texts = dict.fromkeys(range(len(job.choices)), "")
    async for piece in job.pieces():
        if piece.ended is not None:
            texts[piece.index] = piece.ended.text
        yield piece
    said = [(message.role, message.content) for message in job.conversation or ()]
    _LOG.info("%s %s", id, {"messages": said, "replies": list(texts.values())})
