"""Chat completion requests as clients send them, checked; conversations made of them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlchat.serving.http.config import MOST_STOP_LETTERS, MOST_STOPS, MOST_TOP_LOGPROBS
from rlchat.serving.http.errors import ApiError, invalid
from rlchat_envs import Conversation, Message, Tool
from rlchat_envs.core.messages import declare
from rlchat_envs.core.tools import read_tools, with_calls

_ROLES = {"developer": "system"}
_Stop = Annotated[str, Field(min_length=1, max_length=MOST_STOP_LETTERS)]
_UNSUPPORTED = "expected {name} to be left out, as it is not supported here"
# Of OpenAI's and vLLM's options: what is not supported, and the values that change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "functions": ([],),
    "function_call": ("none",),
    "audio": (),
    "modalities": (["text"],),
    "prediction": (),
    "web_search_options": (),
    "response_format": ({"type": "text"},),
    "top_k": (-1, 0),
    "min_p": (0,),
    "stop_token_ids": ([],),
    "best_of": (1,),
    "parallel_tool_calls": (True,),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
}
# What tells of the request and changes no reply.
_IGNORED = (
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
    "prompt_cache_retention",
)


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool | None = Field(None, description="Send a last chunk with the usage.")
    include_obfuscation: bool | None = Field(None, description="Heeded by nobody here.")


class ChatMessage(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = Field(
        None, description="Text, or parts of type text."
    )
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _said(self) -> ChatMessage:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError(f"expected content in a message of role {self.role}; got none")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("expected tool_calls in messages of role assistant alone")
        _ = self.text  # which raises where a part is no text
        return self

    @property
    def text(self) -> str:
        """Its words, those of several parts joined; calls of functions in rlchat's own form."""
        parts = [self.content] if isinstance(self.content, str) else list(self.content or [])
        words = []
        for part in parts:
            if isinstance(part, str):
                words.append(part)
                continue
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise ValueError("expected text parts alone; images, sounds and files are not read")
            words.append(part["text"])
        said = "\n".join(words)
        if not self.tool_calls:
            return said
        whole = with_calls(said, self.tool_calls)
        if whole is None:
            raise ValueError("expected tool_calls as a reply has them, each with a function's name")
        return whole


class ChatRequest(BaseModel):
    """A request for a chat completion: OpenAI's options, and vLLM's for token ids."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str = Field(description="Name of a served agent; /v1/models lists them.")
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, description="Most tokens of a reply.")
    max_completion_tokens: int | None = Field(None, ge=1, description="The same.")
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    n: int | None = Field(None, ge=1, description="Number of replies.")
    seed: int | None = Field(
        None, ge=-(2**63), lt=2**63, description="The same request with it has the same reply."
    )
    stop: _Stop | Annotated[list[_Stop], Field(max_length=MOST_STOPS)] | None = Field(
        None, description="Texts that end a reply where they begin."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = Field(
        None, description="Give each token's logprob, by the model itself: at temperature 1."
    )
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP_LOGPROBS)
    tools: list[dict[str, Any]] | None = Field(None, description="Functions that may be called.")
    tool_choice: Literal["auto", "none"] | None = None
    return_token_ids: bool | None = Field(
        None, description="Give prompt_token_ids, and token_ids of each reply."
    )
    prompt_token_ids: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        min_length=1,
        description="Tokens that are read in the place of the messages, up to where a reply begins",
    )

    @model_validator(mode="after")
    def _fits(self) -> ChatRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("expected stream_options with stream true alone")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("expected top_logprobs with logprobs true alone")
        both = self.max_tokens, self.max_completion_tokens
        if None not in both and both[0] != both[1]:
            raise ValueError("expected max_tokens or max_completion_tokens; got both")
        return self

    @property
    def budget(self) -> int | None:
        """Most tokens of a reply; None if it is left to the server."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end a reply."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def functions(self) -> tuple[Tool, ...]:
        """Functions that may be called.

        Raises:
            ApiError: they are none.
        """
        try:
            return read_tools(self.tools or ()) if self.tool_choice != "none" else ()
        except (ValueError, RecursionError) as error:
            raise ApiError(400, str(error), "tools", "invalid_value") from error

    @property
    def conversation(self) -> Conversation:
        """The messages, which declare the functions."""
        said = [Message(_ROLES.get(m.role, m.role), m.text) for m in self.messages]  # type: ignore[arg-type]
        return declare(tuple(said), self.functions)


def read_request(body: bytes, most_messages: int) -> ChatRequest:
    """Read a request.

    Raises:
        ApiError: it is none, or asks for what is not there.
    """
    told = _read_json(body)
    messages = told.get("messages")
    if isinstance(messages, list) and len(messages) > most_messages:
        sentence = (
            f"expected at most {most_messages} messages; got {len(messages):,}; leave some out"
        )
        raise ApiError(400, sentence, "messages", "too_many_messages")
    for name in _IGNORED:
        told.pop(name, None)
    for name, neutral in _NEUTRAL.items():
        value = told.pop(name, None)
        if value is not None and value not in neutral:
            raise ApiError(400, _UNSUPPORTED.format(name=name), name, "unsupported_parameter")
    if told.get("tool_choice") not in (None, "auto", "none"):
        sentence = "expected tool_choice auto or none; nothing else is supported here"
        raise ApiError(400, sentence, "tool_choice", "unsupported_parameter")
    try:
        return ChatRequest.model_validate(told)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False)) from None


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body, parse_constant=_no_number)
        json.dumps(told, ensure_ascii=False).encode()  # of text, no halves of characters
    except UnicodeEncodeError:
        sentence = "expected text of whole characters; got a half of one (a lone surrogate)"
        raise ApiError(400, sentence, None, "invalid_text") from None
    except (ValueError, RecursionError):
        sentence = "expected a body of JSON in UTF-8; got something else"
        raise ApiError(400, sentence, None, "invalid_json") from None
    if not isinstance(told, dict):
        raise ApiError(400, "expected a JSON object; got something else", None, "invalid_json")
    return told


def _no_number(name: str) -> None:
    raise ValueError(name)
