"""Errors in the shape that OpenAI's clients read."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request

_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_SENTENCES = {
    404: "expected an endpoint, such as /v1/chat/completions; got {path}; /docs has all",
    405: "expected another method for {path}; got {method}; /docs has them",
}


class ApiError(Exception):
    """A request that is refused, or cannot be done."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        """See `body`; the message is one sentence."""
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        kind = _KINDS.get(self.status, "server_error" if self.status >= 500 else "")
        return {
            "error": {
                "message": self.message,
                "type": kind or "invalid_request_error",
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body, self.status, self.headers)


def busy(message: str, seconds: int) -> ApiError:
    """The answer to those who ask while too many wait."""
    return ApiError(429, message, None, "rate_limit_exceeded", {"Retry-After": str(seconds)})


def closing() -> ApiError:
    """The answer to those who ask while the server ends."""
    sentence = "expected a server that goes on; this one is about to end; ask again in a moment"
    return ApiError(503, sentence, None, "shutting_down", {"Retry-After": "5"})


def place_of(error: BaseException) -> str:
    """The kind of an exception and where it was raised.

    What it says is left out of logs, as it could hold what somebody wrote.
    """
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {last.name} ({Path(last.filename).name}:{last.lineno})"


def failed() -> ApiError:
    """The answer where generation failed."""
    sentence = "the reply could not be generated; the server's log says where it failed"
    return ApiError(500, sentence, None, "generation_failed")


def timed_out(seconds: float) -> ApiError:
    """The answer where a reply took too long."""
    sentence = f"expected a reply within {seconds:g} s; it took longer; ask for fewer tokens"
    # Clients would ask again for what takes as long once more.
    return ApiError(504, sentence, None, "timeout", {"x-should-retry": "false"})


def invalid(errors: Sequence[Any]) -> ApiError:
    """What pydantic found wrong with a request, the first thing of it.

    The value itself is not repeated: it may be long, or what somebody said.
    """
    first = errors[0]
    # Of a union, pydantic names the kind that it has tried as well, such as list[constrained-str].
    told = [str(part) for part in first["loc"] if part != "str"]
    param = ".".join(part for part in told if part.replace("_", "").isalnum())
    if first["type"] == "extra_forbidden":
        message = f"Unrecognized request argument supplied: {param}"
        return ApiError(400, message, param, "unknown_parameter")
    said = str(first["msg"]).removeprefix("Value error, ")
    message = said if said.startswith("expected") else f"{param}: {said}"
    return ApiError(400, message, param or None, "invalid_value")


async def on_api_error(_: Request, error: Exception) -> JSONResponse:
    """Answer what one of our functions refused."""
    assert isinstance(error, ApiError)
    return error.response


async def on_failure(_: Request, __: Exception) -> JSONResponse:
    """Answer where something broke; the gate logs where."""
    sentence = "the request could not be done; the server's log says where it failed"
    return ApiError(500, sentence, None, "internal_error").response


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer what the framework refused: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    sentence = _SENTENCES.get(error.status_code, str(error.detail))
    message = sentence.format(path=request.url.path[:100], method=request.method)
    return ApiError(error.status_code, message, headers=error.headers).response
