"""The application: routes, who is let in, and the schema of the endpoints."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from rlchat.serving.http.completions import complete
from rlchat.serving.http.docs_page import docs_page
from rlchat.serving.http.errors import ApiError, on_api_error, on_failure, on_http_error
from rlchat.serving.http.gate import Gate
from rlchat.serving.http.keys import Keys
from rlchat.serving.http.metrics import CONTENT_TYPE
from rlchat.serving.http.replies import ChatChunk, ChatCompletion
from rlchat.serving.http.service import ServedModel, Service
from rlchat.serving.http.wire import ChatRequest

_REFERENCE = "#/components/schemas/{model}"
_ABOUT = "Agents of rlchat behind OpenAI's chat completions."


def make_app(
    service: Service, keys: Keys, own_names: bool = False, log_text: bool = False
) -> ASGIApp:
    """Make the application that answers requests.

    Args:
        service: generates.
        keys: let clients in; without any, everybody is.
        own_names: whether it is to be asked by this machine's own names alone.
        log_text: whether what is said is logged.
    """
    app = FastAPI(title="rlchat", version=metadata.version("rlchat"), docs_url=None, redoc_url=None)
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_failure)
    known = [Depends(_door(keys))]
    schema = {"$ref": _REFERENCE.format(model="ChatRequest")}
    content: dict[str, Any] = {"content": {"application/json": {"schema": schema}}}

    @app.post(
        "/v1/chat/completions",
        dependencies=known,
        responses={
            200: {"model": ChatCompletion, "description": "A reply, or a stream of chunks."}
        },
        openapi_extra={"requestBody": {**content, "required": True}},
    )
    async def chat_completions(request: Request) -> Response:
        """Let an agent reply to a conversation."""
        return await complete(service, request, log_text)

    _add_models(app, service, known)
    _add_state(app, service, known)
    _describe(app)
    return Gate(app, service.metrics, service.limits.body_bytes, own_names and not keys)


def _door(keys: Keys) -> Callable[[Request], None]:
    """A check of a request's key."""

    def check(request: Request) -> None:
        """Refuse who has no key, or a wrong one.

        Raises:
            ApiError: it is refused.
        """
        given = request.headers.get("authorization", "")
        if keys and not keys.let_in(given):
            got = "a key that is not known" if given else "none"
            sentence = f"expected an API key as Authorization: Bearer KEY; got {got}"
            answer = {"WWW-Authenticate": "Bearer"}
            raise ApiError(401, sentence, None, "invalid_api_key", answer)

    return check


def _add_models(app: FastAPI, service: Service, known: list[Any]) -> None:
    @app.get("/v1/models", dependencies=known)
    async def list_models() -> dict[str, Any]:
        """List the agents."""
        return {"object": "list", "data": [_described(m) for m in service.models.values()]}

    @app.get("/v1/models/{model:path}", dependencies=known)
    async def retrieve_model(model: str) -> dict[str, Any]:
        """Describe one agent."""
        return _described(service.find(model))


def _described(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "rlchat",
        "max_model_len": model.room,
    }


def _add_state(app: FastAPI, service: Service, known: list[Any]) -> None:
    @app.get("/health")
    async def health() -> Response:
        """Say whether requests are taken."""
        if service.draining:
            return JSONResponse({"status": "closing"}, 503, {"Retry-After": "5"})
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", dependencies=known)
    async def metrics() -> Response:
        """Give what the server counts, in Prometheus' text format."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """Show the endpoints to people."""
        return docs_page(app.openapi())


def _describe(app: FastAPI) -> None:
    """Let the schema have the request, which is read by hand, and the chunks of a stream."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(
                get_openapi(
                    title=app.title, version=app.version, description=_ABOUT, routes=app.routes
                )
            )
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            for model in (ChatRequest, ChatChunk):
                own = model.model_json_schema(ref_template=_REFERENCE)
                schemas.update(own.pop("$defs", {}))
                schemas[model.__name__] = own
        return made

    app.openapi = openapi  # type: ignore[method-assign]
