"""Continuous batching: replies join and leave while others are generated, in one thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from rlchat.inference.engine import decoder_of
from rlchat.inference.model_agent import ModelAgent
from rlchat.inference.rows import Sampled, longest_beginning
from rlchat.serving.http.choice import Choice
from rlchat.serving.http.errors import place_of

_LOG = logging.getLogger("rlchat.serve")


class Lane:
    """The replies of one agent, in rows of its decoder.

    A row stays when its reply has ended, up to ``kept`` of them: a conversation that begins with
    what is in it goes on there, and nothing of it is computed again.
    """

    def __init__(self, agent: ModelAgent, rows: int, kept: int, slots: int):
        """Prepare a decoder.

        Args:
            agent: replies.
            rows: replies at a time.
            kept: conversations that stay.
            slots: tokens of a conversation, at most.
        """
        stop_ids = agent.template.stop_ids
        self._decoder = decoder_of(agent.generation, rows + kept, slots, stop_ids)
        self.rows, self._most_kept = rows, kept
        self.waiting: deque[Choice] = deque()
        self.running: dict[int, Choice] = {}  # by conversation, as the decoder numbers them
        self._kept: dict[int, Sequence[int]] = {}  # tokens in the cache, the oldest first
        self._number = 0

    @property
    def kept(self) -> int:
        """Conversations that are in memory without a reply in progress."""
        return len(self._kept)

    @property
    def busy(self) -> bool:
        """Whether there is something to generate."""
        return bool(self.running or self.waiting)

    def step(self) -> None:
        """Let in who waits, and generate a token of every reply."""
        self._admit()
        if not self.running:
            return
        fresh: set[int] = set()

        def note(conversation: int, token: int, _: float) -> None:
            self.running[conversation].add([token])
            fresh.add(conversation)

        over = self._decoder.step(note)
        for conversation in fresh:
            self._go_on(conversation, over.get(conversation))

    def cancel(self, choice: Choice) -> None:
        """Take a reply out, whether it waits or is generated; its row is free at once."""
        for conversation, own in list(self.running.items()):
            if own is choice:
                self._end(conversation, "stop", self._decoder.end(conversation))
        if choice in self.waiting:
            self.waiting.remove(choice)
            choice.end("stop")

    def fail(self) -> None:
        """End all replies, as generation has failed."""
        for conversation in [*self.running, *self._kept]:
            self._decoder.forget(conversation)
        ended = [*self.running.values(), *self.waiting]
        self.running.clear()
        self.waiting.clear()
        self._kept.clear()
        for choice in ended:
            choice.end("error")

    def _admit(self) -> None:
        """Give rows to those who wait, the first first; a copy after what it is a copy of."""
        for choice in list(self.waiting):
            if len(self.running) == self.rows:
                return
            leader = choice.leader
            if leader is None or leader.begun or leader.ended is not None:
                self.waiting.remove(choice)
                self._begin(choice)

    def _begin(self, choice: Choice) -> None:
        conversation = self._row_for(choice.context.ids)
        choice.cached = self._decoder.length(conversation)
        self.running[conversation] = choice
        self._submit(conversation, choice.context.first_tokens)

    def _submit(self, conversation: int, most: int) -> None:
        choice = self.running[conversation]
        lacking = choice.context.ids[self._decoder.length(conversation) :]
        self._decoder.submit(conversation, lacking, choice.wishes.noise, most, choice.sampling)

    def _row_for(self, prompt: Sequence[int]) -> int:
        """A conversation that the prompt goes on, or a new one in the place of the oldest."""
        best, same = longest_beginning(prompt, self._kept)
        full = len(self.running) + len(self._kept) >= self.rows + self._most_kept
        goes_on = best is not None and same == len(self._kept[best])
        if best is not None and (goes_on or (full and len(self._kept) == 1)):
            del self._kept[best]
            self._decoder.rewind(best, min(same, len(prompt) - 1))
            return best
        if full:
            oldest = next(c for c in self._kept if c != best)
            self._decoder.forget(oldest)
            del self._kept[oldest]
        self._number += 1
        return self._number

    def _go_on(self, conversation: int, over: Sampled | None) -> None:
        """Show what a reply has come to, and end it if it has ended."""
        choice = self.running[conversation]
        if choice.show():
            self._end(conversation, "stop", over or self._decoder.end(conversation))
        elif over is not None:
            more = choice.context.goes_on()
            if more is None:
                self._end(conversation, "stop" if over.finished else "length", over)
                return
            choice.cached += over.copied
            written, most = more
            if written:
                choice.add(written, written=True)
            self._submit(conversation, most)

    def _end(self, conversation: int, reason: str, sampled: Sampled) -> None:
        choice = self.running.pop(conversation)
        choice.cached += sampled.copied
        if length := self._decoder.length(conversation):
            self._kept[conversation] = choice.context.ids[:length]
        while len(self._kept) > self._most_kept:
            oldest = next(iter(self._kept))
            self._decoder.forget(oldest)
            del self._kept[oldest]
        if not length:
            self._decoder.forget(conversation)
        choice.end(reason)


class Batcher(threading.Thread):
    """The thread that generates for all agents, a step of each in turn."""

    def __init__(self) -> None:
        """Prepare; `start` begins."""
        super().__init__(name="rlchat-generate", daemon=True)
        self.lanes: list[Lane] = []
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, lane: Lane, choices: Sequence[Choice]) -> None:
        """Let replies wait for rows; from any thread."""
        self._orders.put(lambda: lane.waiting.extend(choices))

    def cancel(self, lane: Lane, choices: Sequence[Choice]) -> None:
        """Take replies out, those that have ended excepted; from any thread."""

        def act() -> None:
            for choice in choices:
                lane.cancel(choice)

        self._orders.put(act)

    def close(self) -> None:
        """End all replies and the thread."""
        self._orders.put(None)

    def run(self) -> None:
        """Generate until `close`."""
        while self._obey():
            for lane in self.lanes:
                if lane.busy:
                    self._step(lane)
        for lane in self.lanes:
            lane.fail()

    def _obey(self) -> bool:
        """Do what was ordered; wait for orders where nothing else is to do."""
        while not self._orders.empty() or not any(lane.busy for lane in self.lanes):
            order = self._orders.get()
            if order is None:
                return False
            order()
        return True

    def _step(self, lane: Lane) -> None:
        try:
            lane.step()
        except Exception as error:
            _LOG.error("generation failed: %s", place_of(error))
            lane.fail()
