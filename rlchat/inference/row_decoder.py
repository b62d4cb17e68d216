"""Sampling from models that are run by rows, over what transformers keeps of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from rlchat.inference.decoder import FORWARD
from rlchat.inference.rows import Noise, OnToken, Sampled, Turn, TurnSampler
from rlchat.models.attention import trunk_and_head
from rlchat.models.by_rows.padding import PaddedRows, padded_states
from rlchat.models.by_rows.states import KeptRows, go_on, merged, split
from rlchat.models.by_rows.way import by_rows
from rlchat.models.generation_model import GenerationModel


class RowDecoder(TurnSampler):
    """Samples turns of conversations, each at its own pace; see `Decoder`, whose methods it has.

    What is kept of a conversation is transformers' own cache of one row. Prompts are read row by
    row, or side by side where they are equally long; rows that take single tokens go on together
    where that is exact, and stay together until one joins or leaves.
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

    def cached_states(self, conversation: int) -> None:
        """Nothing: no layer is shared by forwards."""

    def sampled_states(self, conversation: int) -> None:
        """Nothing: states are not kept."""

    def submit(
        self, conversation: int, prompt: Sequence[int], noise: Noise, max_new_tokens: int
    ) -> None:
        """Append ``prompt`` to a conversation, and generate a turn after it."""
        assert prompt and conversation not in self._turns
        self._ids.setdefault(conversation, [])
        self._turns[conversation] = Turn(prompt, noise, max_new_tokens)

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
        """Read what is pending: single tokens side by side, and as many prompts as there is room.

        Returns:
            Logits (n, V) after the last ids of those that have nothing pending, and which they are.
        """
        logits: list[Tensor] = []
        ready: list[int] = []
        singles = [c for c, turn in self._turns.items() if self._ids[c] and self._is_single(turn)]
        prompts = [c for c in self._turns if c not in singles]
        for members in self._forwards(singles, prompts):
            tokens = 1 if members[0] in singles else len(self._turns[members[0]].pending)
            after = self._go_on(members, tokens)
            done = [i for i, c in enumerate(members) if not self._turns[c].pending]
            ready += [members[i] for i in done]
            logits.append(after[done])
        return logits, ready

    def _is_single(self, turn: Turn) -> bool:
        """Whether a conversation that is kept reads its next token alone."""
        return len(turn.pending) == 1 or self._way.turns == "single"

    def _forwards(self, singles: list[int], prompts: list[int]) -> Iterator[list[int]]:
        """Deal conversations to forwards whose rows get equally many tokens."""
        if self._way.together and singles:
            yield sorted(singles)
        elif not self._way.together:
            yield from ([c] for c in singles)
        alike: dict[tuple[int, int], list[int]] = {}
        for c in prompts:
            begins, tokens = not self._ids[c], len(self._turns[c].pending)
            alone = 0 if begins and self._way.together else c + 1
            alike.setdefault((tokens, alone), []).append(c)
        room = FORWARD
        for (tokens, _), members in alike.items():
            for begin in range(0, len(members), max(1, FORWARD // tokens)):
                few = members[begin : begin + max(1, FORWARD // tokens)]
                if room <= 0:
                    return
                room -= tokens * len(few)
                yield few

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
