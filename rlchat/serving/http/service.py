"""The served agents and the requests in progress: between the thread that generates and HTTP."""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rlchat.errors import UserError
from rlchat.inference.model_agent import ModelAgent
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.exact.row_limit import row_limit
from rlchat.models.templates.context import Context
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.serving.http.batching import Batcher, Lane
from rlchat.serving.http.choice import Choice, Ended, Piece, Wishes
from rlchat.serving.http.config import GenerationConfig, Limits
from rlchat.serving.http.errors import ApiError, busy, closing
from rlchat.serving.http.memory import ConversationMemory, given_prompt
from rlchat.serving.http.metrics import Metrics
from rlchat.serving.http.replies import spoken
from rlchat.serving.http.wire import ChatRequest
from rlchat_envs import Conversation

_LONGEST_WAIT = 60  # seconds, of Retry-After
_GREEDY = 1e-4  # a temperature below it is 0: logits divided by less leave float32's range
_TOKENIZING = threading.Lock()
"""Agents over one base share a tokenizer, whose settings every call changes."""


@dataclass(eq=False)
class ServedModel:
    """One agent under the name that clients ask for.

    Attributes:
        room: Tokens of a conversation with its reply, at most.
        live: Replies that have not ended.
        seconds: That a request took lately.
    """

    name: str
    agent: ModelAgent
    template: ChatTemplate
    lane: Lane
    room: int
    created: int = field(default_factory=lambda: int(time.time()))
    live: set[Choice] = field(default_factory=set)
    seconds: float = 1.0

    def __post_init__(self) -> None:
        """Remember no conversation yet."""
        self.memory = ConversationMemory(self.template)

    def prompt(self, request: ChatRequest, way: str, budget: int) -> tuple[Context, int]:
        """The tokens before a reply, and how many were drawn before; see `ConversationMemory`.

        Raises:
            ApiError: token ids that the model does not have.
        """
        with _TOKENIZING:
            if (ids := request.prompt_token_ids) is None:
                try:
                    return self.memory.prompt(request.conversation, way, budget)
                except UnicodeEncodeError:
                    sentence = "expected text of whole characters; got half of one (a surrogate)"
                    raise ApiError(400, sentence, "messages", "invalid_text") from None
            embeddings: Any = self.agent.generation.model.get_input_embeddings()
            most = embeddings.weight.shape[0]
            if max(ids) >= most:
                sentence = f"expected token ids below {most:,}; got {max(ids)}"
                raise ApiError(400, sentence, "prompt_token_ids", "invalid_value")
            return given_prompt(self.template, ids, request.functions, budget), 0


@dataclass(eq=False)
class Job:
    """The replies to one request."""

    model: ServedModel
    request: ChatRequest
    conversation: Conversation | None  # None if tokens were given
    way: str
    drawn: int
    metrics: Metrics
    prompt: Sequence[int]
    began: float
    choices: list[Choice] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Wait for the first piece."""
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self._open = 0
        self._seen = False
        self.over = False

    def add(self, choice: Choice) -> None:
        """Take one of the replies."""
        self.choices.append(choice)
        self.model.live.add(choice)
        self._open += 1

    def emit(self, piece: Piece) -> None:
        """Take a piece of a reply; from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
            self._loop.call_soon_threadsafe(self._take, piece)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Pieces of all replies as they come, up to the last."""
        ended = 0
        while ended < len(self.choices):
            piece = await self._pieces.get()
            ended += piece.ended is not None
            yield piece

    def _take(self, piece: Piece) -> None:
        name, metrics = self.model.name, self.metrics
        if piece.ids and not self._seen:
            self._seen = True
            metrics.first_token.labels(name).observe(time.monotonic() - self.began)
        metrics.generated_tokens.labels(name).inc(len(piece.ids))
        try:
            if piece.ended is not None:
                self._end(self.choices[piece.index], piece.ended)
        finally:  # or the client would wait for it
            self._pieces.put_nowait(piece)

    def _end(self, choice: Choice, ended: Ended) -> None:
        self.model.live.discard(choice)
        self._open -= 1
        name, metrics = self.model.name, self.metrics
        metrics.cached_tokens.labels(name).inc(ended.cached)
        metrics.prompt_tokens.labels(name).inc(len(self.prompt))
        if self.conversation is not None and ended.whole and ended.reason != "error":
            turn = choice.context.turn
            if turn and not self.over:
                said = (*self.conversation, spoken(ended))
                drawn, cut = self.drawn + choice.drawn, ended.reason == "length"
                self.model.memory.keep(said, self.way, choice.context, cut, drawn)
        if not self._open:
            seconds = time.monotonic() - self.began
            metrics.duration.labels(name).observe(seconds)
            self.model.seconds += 0.1 * (seconds - self.model.seconds)


class Service:
    """All that is served: agents by name, the thread that generates for them, and limits."""

    def __init__(
        self,
        agents: Sequence[tuple[str, ModelAgent]],
        generation: GenerationConfig | None = None,
        limits: Limits | None = None,
    ):
        """Prepare rows for every agent, and begin to generate when asked.

        Args:
            agents: and the names that clients ask for.
            generation: rows, budgets, and what requests may leave out.
            limits: of requests.

        Raises:
            UserError: an agent that cannot think, or without room for a reply.
        """
        self.generation, self.limits = generation or GenerationConfig(), limits or Limits()
        self.metrics, self.batcher = Metrics(), Batcher()
        self.draining = False
        self.models = {name: self._model(name, agent) for name, agent in agents}
        self.batcher.lanes = [model.lane for model in self.models.values()]
        self.batcher.start()

    @property
    def idle(self) -> bool:
        """Whether no reply is in progress."""
        return not any(model.live for model in self.models.values())

    def close(self) -> None:
        """End all replies, and the thread that generates."""
        self.batcher.close()
        self.batcher.join()

    def find(self, name: str) -> ServedModel:
        """The agent of a name.

        Raises:
            ApiError: there is none.
        """
        if name not in self.models:
            sentence = f"expected a model out of {', '.join(self.models)}; got {name[:100]!r}"
            raise ApiError(404, sentence, "model", "model_not_found")
        return self.models[name]

    async def begin(self, request: ChatRequest, began: float) -> Job:
        """Let the replies to a request be generated.

        Raises:
            ApiError: it cannot be done, or not now.
        """
        if self.draining:
            raise closing()
        model, count = self.find(request.model), request.n or 1
        if count > self.limits.choices:
            sentence = f"expected n of at most {self.limits.choices}; got {count}"
            raise ApiError(400, sentence, "n", "invalid_value")
        self._check_queue(model, count)
        temperature = request.temperature
        temperature = self.generation.temperature if temperature is None else temperature
        temperature = 0.0 if temperature < _GREEDY else temperature
        way = _way(request, temperature)
        budget = request.budget or self.generation.max_new_tokens
        context, drawn = await asyncio.to_thread(model.prompt, request, way, budget)
        context = self._fitted(model, context, budget)
        if self.draining:
            raise closing()
        self._check_queue(model, count)  # others may have come meanwhile
        given = None if request.prompt_token_ids else request.conversation
        prompt = list(context.ids)
        job = Job(model, request, given, way, drawn, self.metrics, prompt, began)
        self._add_choices(job, context, temperature)
        self.batcher.submit(model.lane, job.choices)
        return job

    def cancel(self, job: Job) -> None:
        """Take a request's replies out, those that have ended excepted."""
        if not job.over:
            job.over = True
            if any(choice in job.model.live for choice in job.choices):
                self.metrics.cancelled.labels(job.model.name).inc()
                self.batcher.cancel(job.model.lane, job.choices)

    def _add_choices(self, job: Job, context: Context, temperature: float) -> None:
        """Prepare each reply; one seed gives the conversations of `rlchat chat` with it."""
        request = job.request
        seed = secrets.randbits(32) if request.seed is None else request.seed
        for index in range(request.n or 1):
            _, noise = episode_seeds(seed, Purpose.CHAT, index)
            noise.bit_generator.advance(job.drawn)  # type: ignore[attr-defined]  # PCG64 can
            wishes = Wishes(
                noise.random,
                temperature,
                1.0 if request.top_p is None else request.top_p,
                request.stops,
                (request.top_logprobs or 0) if request.logprobs else None,
            )
            leader = job.choices[0] if job.choices else None
            own = context.another_turn()
            job.add(
                Choice(index, job.model.template, own, request.functions, wishes, job.emit, leader)
            )

    def _check_queue(self, model: ServedModel, count: int) -> None:
        """Refuse what would wait in too long a row.

        Raises:
            ApiError: too many wait.
        """
        ahead = len(model.live) + count - self.generation.rows
        if ahead > self.limits.waiting:
            seconds = math.ceil(model.seconds * ahead / self.generation.rows)
            sentence = f"expected fewer replies at a time; {len(model.live)} are in progress"
            raise busy(sentence, max(1, min(_LONGEST_WAIT, seconds)))

    def _fitted(self, model: ServedModel, context: Context, budget: int) -> Context:
        """A context whose reply has no more tokens than there is room for.

        Raises:
            ApiError: there is no room for one.
        """
        over = len(context.ids) + context.longest_turn - model.room
        if over >= budget:
            sentence = (
                f"expected a conversation that leaves room for a reply within {model.room:,} "
                f"tokens; got one of {len(context.ids):,}; leave messages out, or serve with a "
                "larger --generation.max-tokens"
            )
            raise ApiError(400, sentence, "messages", "context_length_exceeded")
        return context.with_budget(budget - max(0, over))

    def _model(self, name: str, agent: ModelAgent) -> ServedModel:
        generation, settings = agent.generation, self.generation
        virtual = 0 if generation.prefix_kv is None else generation.prefix_kv[0][0].shape[1]
        positions = getattr(generation.model.config, "max_position_embeddings", None)
        limits = [most - virtual for most in (positions, row_limit(generation.model)) if most]
        room = min(settings.max_tokens, *limits) if limits else settings.max_tokens
        template = agent.template.thinking(settings.thinking)
        if (least := Context(template, 1).longest_turn) >= room:
            raise UserError(
                f"expected room for a reply of {name} within {room} tokens; its thoughts alone may "
                f"take {least - 1}; raise --generation.max-tokens or give thoughts fewer tokens"
            )
        lane = Lane(agent, settings.rows, settings.kept, room)
        model = ServedModel(name, agent, template, lane, room)
        states = {
            "running": lambda: len(lane.running),
            "waiting": lambda: max(0, len(model.live) - len(lane.running)),
            "kept": lambda: lane.kept,
        }
        self.metrics.watch(name, states)
        return model


def _way(request: ChatRequest, temperature: float) -> str:
    """How a conversation is sampled: the same messages sampled otherwise are other tokens."""
    if temperature == 0:
        return "greedy"
    return "free" if request.seed is None else f"{request.seed} {temperature} {request.top_p}"
