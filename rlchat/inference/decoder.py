"""Sampling many conversations at once, each at its own pace, with a cache that lives as long."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from rlchat.inference.cuda_graphs import Replayed
from rlchat.inference.kv_cache import Cache, RowGroup, StepLayout, is_lazy
from rlchat.inference.rows import (
    Noise,
    OnToken,
    RowTable,
    Sampled,
    Sampling,
    TurnSampler,
    group_rows,
    longest_beginning,
    slots_of,
)
from rlchat.models.attention import Mask, middle_layer, text_config, trunk_and_head
from rlchat.models.generation_model import GenerationModel

FORWARD = 1024  # tokens in one forward: enough for full speed, few enough for memory
REPLAYED = ("cuda",)  # devices on which a token for everybody is one recorded graph
BLOCK = 8  # a CPU's bfloat16 products are slow for fewer rows, and prepared once per shape


class Decoder(TurnSampler):
    """Samples turns of up to ``rows`` conversations at a time, each at its own pace.

    A conversation's turn is submitted with its prompt. Each step is one forward: a token for every
    conversation that generates, and as much of the pending prompts as there is room for.
    """

    def __init__(
        self,
        generation: GenerationModel,
        rows: int,
        slots: int,
        stop_ids: Collection[int],
        temperature: float = 1.0,
        kept_layers: int = 0,
        keep_sampled_states: bool = False,
    ):
        """Make an empty cache of ``rows`` conversations with ``slots`` tokens each.

        Args:
            generation: the model.
            rows: conversations at a time.
            slots: tokens of each, at most.
            stop_ids: the ids that end a turn.
            temperature: divides the logits; 0 is greedy.
            kept_layers: the states after so many layers are kept for `cached_states`, if any.
            keep_sampled_states: whether the states that tokens were drawn from are kept, for
                `sampled_states`.
        """
        self._generation = generation  # kept, so that nothing else is merged into its model
        self.trunk, self.head = trunk_and_head(generation.model)
        super().__init__(stop_ids, temperature)
        weight = next(generation.model.parameters())
        self._device = weight.device
        self._half = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
        self._prefix_kv = generation.prefix_kv
        self._before = 0 if self._prefix_kv is None else self._prefix_kv[0][0].shape[1]
        layers = text_config(generation.model).num_hidden_layers
        self._replayed: Replayed | None = None
        if self._device.type in REPLAYED:
            buffers = torch.zeros(2, rows, dtype=torch.long, device=self._device)
            self._replayed = Replayed(*buffers)
            slots += 1  # for the token of a row that is full, and generates nothing
        self._cache = Cache(layers, rows, slots + self._before, is_lazy(weight))
        self._rows = RowTable(rows)
        self._ids: dict[int, list[int]] = {}  # conversation -> tokens in the cache
        self._kept_layers = kept_layers
        self._kept: dict[int, list[Tensor]] = {}  # conversation -> states, in pieces
        # States of a middle layer are not among what is recorded as a graph.
        keep_sampled_states = keep_sampled_states and self._replayed is None
        self._middle = max(middle_layer(layers), kept_layers) if keep_sampled_states else None
        self._sampled_states: dict[int, list[Tensor]] = {}  # conversation -> (2, D) a sampled token

    @property
    def _rows_used(self) -> int:
        """Rows of the cache that are in use; all of them where shapes must not change."""
        return self._rows.used if self._replayed is None else self._rows.count

    def length(self, conversation: int) -> int:
        """Tokens of the conversation that are in the cache."""
        return len(self._ids.get(conversation, ()))

    def forget(self, conversation: int) -> None:
        """Make room for another conversation in the place of this one."""
        self._rows.release(conversation)
        for known in (self._turns, self._ids, self._kept, self._sampled_states):
            known.pop(conversation, None)

    def rewind(self, conversation: int, tokens: int) -> None:
        """Leave no more than the first so many tokens of a conversation in the cache."""
        if conversation in self._ids and tokens < len(self._ids[conversation]):
            del self._ids[conversation][tokens:]
            if self._kept_layers:
                self._kept[conversation] = [self.cached_states(conversation)[:tokens]]

    def cached_states(self, conversation: int) -> Tensor:
        """States (T, D) after the kept layers, of the tokens that are in the cache."""
        return torch.cat(self._kept[conversation])

    def sampled_states(self, conversation: int) -> Tensor | None:
        """States (A, 2, D) that its A sampled tokens were drawn from, if they were kept.

        The first are the last layer's, the second those two thirds up.
        """
        return None if self._middle is None else torch.stack(self._sampled_states[conversation])

    def submit(
        self,
        conversation: int,
        prompt: Sequence[int],
        noise: Noise,
        max_new_tokens: int,
        sampling: Sampling | None = None,
    ) -> None:
        """Append ``prompt`` to a conversation, and generate a turn after it.

        Args:
            conversation: any number; at most ``rows`` different ones that were not forgotten.
            prompt: new token ids, at least one.
            noise: gives the one uniform number that a token takes.
            max_new_tokens: budget of the turn.
            sampling: how its tokens are drawn; at the decoder's temperature if left out.
        """
        assert prompt and conversation not in self._turns
        if conversation not in self._rows:
            self._rows.take(conversation)
            self._ids[conversation], self._kept[conversation] = [], []
            self._sampled_states[conversation] = []
        self._turns[conversation] = self._turn(prompt, noise, max_new_tokens, sampling)

    @torch.inference_mode()
    def step(self, on_token: OnToken | None = None) -> dict[int, Sampled]:
        """Run one forward.

        Args:
            on_token: told (conversation, id, logprob) as tokens come.

        Returns:
            What was sampled in turns that have ended, by conversation. A last token is not in the
            cache yet: it is to be the first of the next prompt (an end-of-turn token too).

        Raises:
            RunError: the merged weights of the model were freed.
        """
        self._generation.require_merged()
        self._close_ranks()
        logits, ready = self._forward(self._next_tokens())
        if not ready:
            return {}
        return self._draw(ready, logits, on_token)

    def _next_tokens(self) -> dict[int, Sequence[int]]:
        """Choose what a forward appends to which conversations; take it from what is pending.

        Those that generate come first, by row, then prompts, in the order of submission.
        """
        generating = [c for c, t in self._turns.items() if len(t.pending) == 1 and self._ids[c]]
        generating.sort(key=self._rows.__getitem__)
        chosen: dict[int, Sequence[int]] = {c: self._turns[c].pending for c in generating}
        room = max(FORWARD - len(chosen), BLOCK)
        for c, turn in self._turns.items():
            if c in chosen or not room:
                continue
            if not self._ids[c]:
                self._begin_row(c)
            chosen[c] = turn.pending[:room]
            room -= len(chosen[c])
        for c, ids in chosen.items():
            self._turns[c].pending = self._turns[c].pending[len(ids) :]
        return chosen

    def _begin_row(self, conversation: int) -> None:
        """Fill a row with what needs no computing: the prefix, and what another row begins with."""
        turn, row = self._turns[conversation], self._rows[conversation]
        best, same = longest_beginning(turn.pending, self._ids)
        same = min(same, len(turn.pending) - 1)  # the last is needed, for what follows it
        self._cache.make_room(self._before + same, self._rows_used)
        if best is not None:
            self._cache.copy(self._rows[best], row, self._before + same)
            if self._kept_layers:
                self._kept[conversation] = [self.cached_states(best)[:same]]
            self._ids[conversation] = list(turn.pending[:same])
            turn.pending, turn.generated.copied = turn.pending[same:], same
        elif self._prefix_kv is not None:
            rows, slots = torch.full((self._before,), row), torch.arange(self._before)
            for layer, pair in enumerate(self._prefix_kv):
                self._cache.write(layer, rows, slots, *pair)

    def _forward(self, new: Mapping[int, Sequence[int]]) -> tuple[Tensor, list[int]]:
        """Append ids to some conversations.

        Returns:
            Logits (n, V) after the last ids of those that have nothing pending, and which they are.
        """
        if self._replayed is not None and all(
            len(ids) == 1 and not self._turns[c].pending for c, ids in new.items()
        ):
            return self._forward_all(new)
        places = [self._rows[c] for c in new]
        counts = torch.tensor([len(ids) for ids in new.values()])
        starts = torch.tensor([self._before + len(self._ids[c]) for c in new])
        ends = counts.cumsum(0)
        slots = slots_of(starts, counts)
        rows = torch.repeat_interleave(torch.tensor(places), counts)
        longest = int(slots.max()) + 1
        self._cache.make_room(longest, self._rows_used)
        # Of half precision a part of the room would be copied before the products.
        room = self._cache.room if self._half else None
        step = StepLayout(
            self._cache,
            rows.to(self._device),
            slots.to(self._device),
            group_rows(places, counts.tolist(), starts.tolist(), room, self._device),
        )
        filler = -len(rows) % (BLOCK if self._half else 1)
        ids = torch.tensor([i for own in new.values() for i in own] + [0] * filler)
        positions = torch.nn.functional.pad(slots, (0, filler))
        states, kept, middle = self._run(ids.to(self._device), positions.to(self._device), step)
        ready, last = [], []
        for (c, own), end in zip(new.items(), ends.tolist(), strict=True):
            self._cached(c, own, None if kept is None else kept[end - len(own) : end])
            if not self._turns[c].pending:
                ready.append(c)
                last.append(end - 1)
        read = states[last]
        if middle is not None:
            for c, pair in zip(ready, torch.stack([read, middle[last]], 1), strict=True):
                self._sampled_states[c].append(pair)
        logits: Tensor = self.head(read)
        return logits, ready

    def _cached(self, conversation: int, ids: Sequence[int], kept: Tensor | None) -> None:
        """Note what the cache holds now."""
        self._ids[conversation] += ids
        if kept is not None:
            self._kept[conversation].append(kept.clone())

    def _run(
        self, ids: Tensor, positions: Tensor, step: StepLayout
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Run the trunk over n tokens.

        Returns:
            States (n, D) of the last layer, and, if wanted, those after the kept layers, and those
            two thirds up.
        """
        out = self.trunk(
            input_ids=ids[None],
            position_ids=positions[None],
            use_cache=False,
            output_hidden_states=self._kept_layers > 0 or self._middle is not None,
            layout=step,
        )
        return (
            out.last_hidden_state[0],
            out.hidden_states[self._kept_layers][0] if self._kept_layers else None,
            None if self._middle is None else out.hidden_states[self._middle][0],
        )

    def _forward_all(self, new: Mapping[int, Sequence[int]]) -> tuple[Tensor, list[int]]:
        """Append one id to some conversations, in a forward of all rows of the cache.

        What the others get lies beyond their end, where nobody looks, until it is overwritten.
        """
        assert self._replayed is not None
        self._cache.make_room(self._cache.slots, self._rows_used)
        ids, slots = torch.zeros(2, self._cache.rows, dtype=torch.long)
        for c, row in self._rows.items():
            slots[row] = self._before + len(self._ids[c])
            if c in new:
                ids[row] = new[c][0]
        logits, kept = self._replayed(self._one_token, ids, slots)
        places = [self._rows[c] for c in new]
        for (c, own), row in zip(new.items(), places, strict=True):
            self._cached(c, own, None if kept is None else kept[row : row + 1])
        return logits[places], [*new]

    def _one_token(self, ids: Tensor, slots: Tensor) -> tuple[Tensor, Tensor | None]:
        """One token (R,) a row, at its slot (R,); give logits (R, V), and states that are kept."""
        room, rows = self._cache.room, torch.arange(len(ids), device=ids.device)
        hidden = torch.arange(room, device=ids.device) > slots[:, None]
        group = RowGroup(0, len(ids), 1, room, Mask(hidden[:, None]), slots[:, None])
        last, kept, _ = self._run(ids, slots, StepLayout(self._cache, rows, slots, [group]))
        return self.head(last), kept

    def _close_ranks(self) -> None:
        """Move the last rows of the cache into those that were left, so that groups are large."""
        for conversation, row, hole in self._rows.compact():
            cached = len(self._ids[conversation])
            if cached:  # of a row that has not begun, the cache may hold nothing yet
                self._cache.copy(row, hole, self._before + cached)
