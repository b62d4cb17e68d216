"""Chat completions as clients read them: whole, or in chunks as they come."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field
from transformers import PreTrainedTokenizerBase

from rlchat.serving.http.choice import Ended, Piece, TokenLogprob
from rlchat_envs import Message
from rlchat_envs.core.tools import Call, write_call, write_message

_LOWEST = -9999.0  # JSON has no infinity
DONE = b"data: [DONE]\n\n"
Reason = Literal["stop", "length", "tool_calls"]


class TopLogprob(BaseModel):
    """A token that was probable."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprobs(TopLogprob):
    """A token of a reply."""

    top_logprobs: list[TopLogprob] = []


class ChoiceLogprobs(BaseModel):
    """The tokens of a reply with their logprobs, its end-of-turn token included."""

    content: list[TokenLogprobs]


class FunctionCalled(BaseModel):
    """A function's name, and its arguments as JSON."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call of a function."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCalled
    index: int | None = Field(None, description="In a stream: the number of the call.")


class ReplyMessage(BaseModel):
    """What the agent says."""

    role: Literal["assistant"] | None = "assistant"
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class ReplyChoice(BaseModel):
    """One of the replies."""

    index: int
    message: ReplyMessage
    finish_reason: Reason
    logprobs: ChoiceLogprobs | None = None
    token_ids: list[int] | None = Field(None, description="With return_token_ids.")


class ChunkChoice(BaseModel):
    """What is new of a reply."""

    index: int
    delta: ReplyMessage
    finish_reason: Reason | None = None
    logprobs: ChoiceLogprobs | None = None
    token_ids: list[int] | None = None


class CachedTokens(BaseModel):
    """Tokens of the prompt that were in memory already."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens that were read and generated."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class ChatCompletion(BaseModel):
    """The answer to a request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ReplyChoice]
    usage: Usage
    prompt_token_ids: list[int] | None = Field(None, description="With return_token_ids.")


class ChatChunk(BaseModel):
    """A chunk of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None


class Writer:
    """Writes the answer to one request.

    Only what was asked for is in it: token ids and logprobs are left out otherwise.
    """

    def __init__(
        self,
        model: str,
        version: str,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Sequence[int],
        logprobs: bool,
        token_ids: bool,
    ):
        """Give the answer its id and its time."""
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"fp_{version[:12]}",
        }
        self._tokenizer, self._prompt = tokenizer, list(prompt)
        self._logprobs, self._token_ids = logprobs, token_ids

    @property
    def id(self) -> str:
        """The answer's."""
        return str(self._head["id"])

    def whole(self, pieces: Sequence[Sequence[Piece]]) -> dict[str, Any]:
        """The whole answer, from the pieces of each reply."""
        choices = [self._choice(own) for own in pieces]
        given: dict[str, Any] = {"prompt_token_ids": self._prompt} if self._token_ids else {}
        usage = self.usage([piece for own in pieces for piece in own])
        told = ChatCompletion(**self._head, choices=choices, usage=usage, **given)
        return told.model_dump(exclude_unset=True) | {"object": told.object}

    def first_chunk(self, index: int) -> bytes:
        """The chunk that begins a reply; that of the first has the prompt's tokens."""
        delta = ReplyMessage(role="assistant", content="", refusal=None)
        given = {"prompt_token_ids": self._prompt} if self._token_ids and index == 0 else {}
        return self._chunk([ChunkChoice(index=index, delta=delta, finish_reason=None)], **given)

    def chunk(self, piece: Piece) -> bytes:
        """What is new of a reply."""
        ended = piece.ended
        calls = [] if ended is None else _calls(ended.calls, numbered=True)
        given: dict[str, Any] = {"content": piece.text} if piece.text else {}
        if calls:
            given["tool_calls"] = calls
        delta = ReplyMessage(**given)
        choice = ChunkChoice(
            index=piece.index,
            delta=delta,
            finish_reason=None if ended is None else _reason(ended),
            **self._asked([piece]),
        )
        return self._chunk([choice])

    def last_chunk(self, pieces: Sequence[Piece]) -> bytes:
        """The chunk with the usage."""
        return self._chunk([], usage=self.usage(pieces))

    def usage(self, pieces: Sequence[Piece]) -> Usage:
        """Tokens of the prompt, and of all replies."""
        read, made = len(self._prompt), sum(len(piece.ids) for piece in pieces)
        cached = [p.ended.cached for p in pieces if p.ended is not None and p.index == 0]
        details = CachedTokens(cached_tokens=min(cached, default=0))
        return Usage(
            prompt_tokens=read,
            completion_tokens=made,
            total_tokens=read + made,
            prompt_tokens_details=details,
        )

    def _choice(self, pieces: Sequence[Piece]) -> ReplyChoice:
        ended = pieces[-1].ended
        assert ended is not None
        calls = _calls(ended.calls)
        said = ended.text if ended.text or not calls else None
        message = ReplyMessage(role="assistant", content=said, refusal=None)
        if calls:
            message.tool_calls = calls
        return ReplyChoice(
            index=pieces[-1].index,
            message=message,
            finish_reason=_reason(ended),
            **self._asked(pieces),
        )

    def _asked(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Logprobs and token ids, if they were asked for."""
        given: dict[str, Any] = {"logprobs": None}
        if self._logprobs:
            content = [self._token(told) for piece in pieces for told in piece.logprobs]
            given["logprobs"] = ChoiceLogprobs(content=content)
        if self._token_ids:
            given["token_ids"] = [token for piece in pieces for token in piece.ids]
        return given

    def _token(self, told: TokenLogprob) -> TokenLogprobs:
        top = [TopLogprob(**self._spelled(token, logprob)) for token, logprob in told.top]
        return TokenLogprobs(**self._spelled(told.id, told.logprob), top_logprobs=top)

    def _spelled(self, token: int, logprob: float) -> dict[str, Any]:
        text = str(self._tokenizer.decode([token]))
        data = None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())
        return {"token": text, "logprob": max(logprob, _LOWEST), "bytes": data}

    def _chunk(self, choices: list[ChunkChoice], **given: Any) -> bytes:
        told = ChatChunk(**self._head, choices=choices, **given)
        return event(told.model_dump(exclude_unset=True) | {"object": told.object})


def event(data: dict[str, Any]) -> bytes:
    """An event of a stream."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def spoken(ended: Ended) -> Message:
    """The message that a client will send back for a reply."""
    calls = [write_call(call.name, call.arguments) for call in ended.calls]
    return Message("assistant", write_message(ended.text, calls) if calls else ended.text)


def _reason(ended: Ended) -> Reason:
    return ended.reason  # type: ignore[return-value]  # errors are no chunks


def _calls(calls: Sequence[Call], numbered: bool = False) -> list[ToolCall]:
    """Calls with ids of their own."""
    made = []
    for number, call in enumerate(calls):
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
        function = FunctionCalled(name=call.name, arguments=arguments)
        given = {"index": number} if numbered else {}
        made.append(
            ToolCall(
                id=f"call_{uuid.uuid4().hex[:24]}", type="function", function=function, **given
            )
        )
    return made
