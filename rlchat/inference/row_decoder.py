"""Sampling from models that are run by rows, over what transformers keeps of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from rlchat.inference.decoder import FORWARD
from rlchat.inference.rows import Noise, OnToken, Sampled, Sampling, TurnSampler
from rlchat.models.attention import trunk_and_head
from rlchat.models.by_rows.padding import SPREAD, PaddedRows, padded_states
from rlchat.models.by_rows.states import KeptRows, go_on, merged, split
from rlchat.models.by_rows.way import by_rows
from rlchat.models.generation_model import GenerationModel


class RowDecoder(TurnSampler):
    """Samples turns of conversations, each at its own pace; see `Decoder`, whose methods it has.

    What is kept of a conversation is transformers' own cache of one row. Where that is exact, rows
    that read as many tokens do so side by side, and stay together until one joins or leaves.
    """

    def __init__(
        self, generation: GenerationModel, stop_ids: Collection[int], temperature: float = 1.0
    ):
        """Keep nothing yet.

        Args:
            generation: the model.
            stop_ids: the ids that end a turn.
            temperature: divides the logits; 0 is greedy.
        """
        way = by_rows(generation.model)
        assert way is not None
        self._generation, self._way = generation, way
        super().__init__(stop_ids, temperature)
        self._device = generation.model.device
        self._ids: dict[int, list[int]] = {}  # conversation -> tokens that were read
        self._kept: dict[int, KeptRows] = {}  # conversation -> what is kept, if it is apart
        self._together: tuple[Sequence[int], KeptRows] | None = None  # those that are not

    def length(self, conversation: int) -> int:
        """Tokens of the conversation that were read and kept."""
        return len(self._ids.get(conversation, ()))

    def forget(self, conversation: int) -> None:
        """Drop what is kept of a conversation."""
        if self._together is not None and conversation in self._together[0]:
            self._part()
        self._turns.pop(conversation, None)
        self._ids.pop(conversation, None)
        self._kept.pop(conversation, None)

    def rewind(self, conversation: int, tokens: int) -> None:
        """Leave no more than the first so many tokens of a conversation; see `Decoder.rewind`.

        A state cannot be taken back: what is kept is dropped, and all is read anew.
        """
        if tokens < self.length(conversation):
            if self._way.turns == "anew":
                del self._ids[conversation][tokens:]
            else:
                self.forget(conversation)

    def cached_states(self, conversation: int) -> None:
        """Nothing: no layer is shared by forwards."""

    def sampled_states(self, conversation: int) -> None:
        """Nothing: states are not kept."""

    def submit(
        self,
        conversation: int,
        prompt: Sequence[int],
        noise: Noise,
        max_new_tokens: int,
        sampling: Sampling | None = None,
    ) -> None:
        """Append ``prompt`` to a conversation, and generate a turn after it."""
        assert prompt and conversation not in self._turns
        self._ids.setdefault(conversation, [])
        self._turns[conversation] = self._turn(prompt, noise, max_new_tokens, sampling)

    @torch.inference_mode()
    def step(self, on_token: OnToken | None = None) -> dict[int, Sampled]:
        """Read prompts, and sample a token for every conversation that has read its own."""
        self._generation.require_merged()
        if not self._turns:
            return {}
        if self._way.turns == "anew":
            logits, ready = self._read_anew()
        else:
            logits, ready = self._read()
        if not ready:
            return {}
        return self._draw(ready, torch.cat(logits), on_token)

    def _read_anew(self) -> tuple[list[Tensor], list[int]]:
        """Read all conversations with a turn from their beginnings."""
        for c, turn in self._turns.items():
            self._ids[c] += turn.pending
            turn.pending = ()
        rows = [torch.tensor(self._ids[c], device=self._device) for c in self._turns]
        batch, model = PaddedRows.of(rows), self._generation.model
        states, _ = padded_states(model, batch)
        row = torch.arange(len(rows))
        last = batch.at(row, torch.tensor([len(own) - 1 for own in rows]))
        return [trunk_and_head(model)[1](states[last.to(self._device)])], [*self._turns]

    def _read(self) -> tuple[list[Tensor], list[int]]:
        """Read what is pending, in forwards of rows that get as many tokens.

        Returns:
            Logits (n, V) after the last ids of those that have nothing pending, and which they are.
        """
        logits: list[Tensor] = []
        ready: list[int] = []
        for members in self._forwards():
            after = self._go_on(members, self._tokens(members))
            done = [i for i, c in enumerate(members) if not self._turns[c].pending]
            ready += [members[i] for i in done]
            logits.append(after[done])
        return logits, ready

    def _forwards(self) -> Iterator[list[int]]:
        """Deal conversations to forwards: prompts, as many as there is room for, then the others.

        Prompts that begin are dealt by their lengths: what one has more than the shortest of its
        forward is read later, as a turn that goes on.
        """
        begin = [c for c in self._turns if not self._ids[c]]
        begin.sort(key=lambda c: len(self._turns[c].pending))
        single = [c for c, t in self._turns.items() if self._ids[c] and len(t.pending) == 1]
        more = [c for c, t in self._turns.items() if self._ids[c] and len(t.pending) > 1]
        if self._way.turns == "single":  # then a prompt goes on by single tokens, as others do
            single, more = [*single, *more], []
        room = FORWARD
        for members in [*self._alike(begin), *self._side_by_side(more)]:
            if room > 0:
                room -= len(members) * self._tokens(members)
                yield members
        yield from self._side_by_side(single)

    def _tokens(self, members: Sequence[int]) -> int:
        """How many tokens conversations read in one forward."""
        if self._ids[members[0]] and self._way.turns == "single":
            return 1
        return min(len(self._turns[c].pending) for c in members)

    def _side_by_side(self, members: list[int]) -> list[list[int]]:
        """Forwards of conversations that go on."""
        if self._way.together:
            return [sorted(members)] if members else []
        return [[c] for c in members]

    def _alike(self, members: list[int]) -> list[list[int]]:
        """Forwards of conversations that begin, by prompts that are alike in length."""
        if not self._way.together:
            return [[c] for c in members]
        forwards: list[list[int]] = []
        for c in members:
            most = len(self._turns[c].pending)
            least = len(self._turns[forwards[-1][0]].pending) if forwards else 0
            if forwards and most <= SPREAD * least and least * len(forwards[-1]) < FORWARD:
                forwards[-1].append(c)
            else:
                forwards.append([c])
        return forwards

    def _go_on(self, members: Sequence[int], tokens: int) -> Tensor:
        """Read the next tokens of some conversations; give logits (n, V) after them."""
        new = [list(self._turns[c].pending[:tokens]) for c in members]
        ids = torch.tensor(new, device=self._device)
        with self._whole_or_nothing(members):
            rows = self._taken(members)
            logits, after = go_on(self._generation.model, ids, rows)
            self._together = members, after
            for c, own in zip(members, new, strict=True):
                self._ids[c] += own
                self._turns[c].pending = self._turns[c].pending[tokens:]
        return logits

    @contextmanager
    def _whole_or_nothing(self, members: Sequence[int]) -> Iterator[None]:
        """Drop what is kept of conversations if a forward ends in its middle, as by Ctrl-C."""
        try:
            yield
        except BaseException:
            self._part()
            for c in members:
                self._kept.pop(c, None)
                self._ids[c] = []
            raise

    def _taken(self, members: Sequence[int]) -> KeptRows | None:
        """Take what is kept of conversations, side by side; None if they begin."""
        if self._together is not None and list(self._together[0]) == list(members):
            rows, self._together = self._together[1], None
            return rows
        self._part()
        apart = [self._kept.pop(c) for c in members if c in self._kept]
        if not apart:
            return None
        return apart[0] if len(apart) == 1 else merged(apart)

    def _part(self) -> None:
        """Keep each conversation apart from the others."""
        if self._together is not None:
            members, rows = self._together
            apart = [rows] if len(members) == 1 else split(rows)
            self._kept.update(zip(members, apart, strict=True))
            self._together = None
