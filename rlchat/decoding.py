"""Sampling many conversations at once, each at its own pace, with a cache that lives as long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlchat.attention import Mask, attend, middle_layer, trunk_and_head
from rlchat.cache import Cache, Run, Step
from rlchat.graphs import Replayed
from rlchat.logits import sample
from rlchat.packing import Past, common_beginning

FORWARD = 1024  # tokens in one forward: enough for full speed, few enough for memory
REPLAYED = ("cuda",)  # devices on which a token for everybody is one recorded graph
BLOCK = 8  # a CPU's bfloat16 products are slow for fewer rows, and prepared once per shape

Noise = Callable[[], float]  # uniform in [0, 1), a row's own
OnToken = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Speaker:
    """A plain model that speaks, and what every conversation of its begins with, unheard.

    ``past`` is where prefix and prompt tuning enter; other adapters are merged into the model.
    """

    model: PreTrainedModel
    past: Past | None = None


def past_of(model: PreTrainedModel, embeddings: Tensor) -> Past:
    """Keys and values of virtual tokens, from their embeddings (P, D)."""
    remembering = _Remembering()
    trunk, _ = trunk_and_head(model)
    trunk(inputs_embeds=embeddings[None], use_cache=False, layout=remembering)
    return remembering.past


@dataclass
class _Remembering:
    """The layout of one row whose keys and values are wanted."""

    past: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    longest: int = 0

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attend as one row does."""
        self.past.append((key, value))
        tokens = key.shape[1]
        hidden = torch.ones(tokens, tokens, dtype=torch.bool, device=key.device).triu(1)
        return attend(query, key, value, Mask(hidden), scale).transpose(0, 1)


@dataclass(slots=True)
class Sampled:
    """What one row said in one turn.

    ``logprobs`` are nats under the distribution that was sampled from. ``finished`` is False if
    the token budget ended the turn.
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


@dataclass(frozen=True, slots=True)
class _States:
    """What a forward of n tokens gives: states (n, D) of the last layer, and others if wanted.

    ``kept`` are those after the kept layers, ``middle`` those two thirds up.
    """

    last: Tensor
    kept: Tensor | None
    middle: Tensor | None


@dataclass(slots=True)
class _Turn:
    """A turn in progress: what is still to be heard before the next token, and what was said."""

    pending: Sequence[int]
    noise: Noise
    budget: int
    said: Sampled = field(default_factory=Sampled)


class Decoder:
    """Speaks for up to ``rows`` conversations at a time, each at its own pace.

    A conversation's turn is submitted when there is something to hear. Each step is one forward: a
    token for everybody who speaks, and as much of what is to be heard as there is room for.
    """

    def __init__(
        self,
        speaker: Speaker,
        rows: int,
        slots: int,
        end_of_turn: int,
        temperature: float = 1.0,
        kept_layers: int = 0,
        keep_spoken: bool = False,
    ):
        """Make an empty cache of ``rows`` conversations with ``slots`` tokens each.

        Args:
            speaker: says what is said.
            rows: conversations at a time.
            slots: tokens of each, at most.
            end_of_turn: the id that ends a turn.
            temperature: divides the logits; 0 is greedy.
            kept_layers: the states after so many layers are kept for `starts`, if there are any.
            keep_spoken: whether the states that tokens were drawn from are kept, for `spoken`.
        """
        self.trunk, self.head = trunk_and_head(speaker.model)
        self.end_of_turn, self.temperature = end_of_turn, temperature
        weight = next(speaker.model.parameters())
        self._device = weight.device
        self._half = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
        self._past = speaker.past
        self._before = 0 if self._past is None else self._past[0][0].shape[1]
        layers = speaker.model.config.num_hidden_layers
        self._replayed: Replayed | None = None
        if self._device.type in REPLAYED:
            buffers = torch.zeros(2, rows, dtype=torch.long, device=self._device)
            self._replayed = Replayed(*buffers)
            slots += 1  # for the token of a row that is full, and says nothing
        self._cache = Cache(layers, rows, slots + self._before)
        self._place: dict[int, int] = {}  # conversation -> row of the cache
        self._ids: dict[int, list[int]] = {}  # conversation -> tokens in the cache
        self._kept_layers = kept_layers
        self._kept: dict[int, list[Tensor]] = {}  # conversation -> states, in pieces
        # States of a middle layer are not among what is recorded as a graph.
        keep_spoken = keep_spoken and self._replayed is None
        self._middle = max(middle_layer(layers), kept_layers) if keep_spoken else None
        self._spoken: dict[int, list[Tensor]] = {}  # conversation -> (2, D) a sampled token
        self._turns: dict[int, _Turn] = {}  # conversation -> its turn in progress

    @property
    def busy(self) -> bool:
        """Whether a turn is in progress."""
        return bool(self._turns)

    @property
    def _rows(self) -> int:
        """Rows of the cache that are in use; all of them where shapes must not change."""
        if self._replayed is not None:
            return self._cache.rows
        return max(self._place.values()) + 1

    def length(self, conversation: int) -> int:
        """Tokens of the conversation that are in the cache."""
        return len(self._ids.get(conversation, ()))

    def forget(self, conversation: int) -> None:
        """Make room for another conversation in the place of this one."""
        for known in (self._turns, self._place, self._ids, self._kept, self._spoken):
            known.pop(conversation, None)

    def starts(self, conversation: int) -> Tensor:
        """States (T, D) after the kept layers, of the tokens that are in the cache."""
        return torch.cat(self._kept[conversation])

    def spoken(self, conversation: int) -> Tensor | None:
        """States (A, 2, D) that its A sampled tokens were drawn from, if they were kept.

        The first are the last layer's, the second those two thirds up.
        """
        return None if self._middle is None else torch.stack(self._spoken[conversation])

    def submit(
        self, conversation: int, prompt: Sequence[int], noise: Noise, max_new_tokens: int
    ) -> None:
        """Append ``prompt`` to a conversation, after which it is to speak.

        Args:
            conversation: any number; at most ``rows`` different ones that were not forgotten.
            prompt: new token ids, at least one.
            noise: gives the one uniform number that a token takes.
            max_new_tokens: budget of the turn.
        """
        assert prompt and conversation not in self._turns
        if conversation not in self._place:
            taken = set(self._place.values())
            place = next(p for p in range(self._cache.rows) if p not in taken)
            self._place[conversation] = place
            self._ids[conversation], self._kept[conversation] = [], []
            self._spoken[conversation] = []
        self._turns[conversation] = _Turn(prompt, noise, max_new_tokens)

    def generate(
        self,
        prompts: Mapping[int, Sequence[int]],
        noise: Mapping[int, Noise],
        max_new_tokens: int,
        on_token: OnToken | None = None,
    ) -> dict[int, Sampled]:
        """Submit all, and step until all have finished; see `submit` and `step`."""
        for conversation, prompt in prompts.items():
            self.submit(conversation, prompt, noise[conversation], max_new_tokens)
        said: dict[int, Sampled] = {}
        try:
            while self.busy:
                said |= self.step(on_token)
        finally:
            self._turns.clear()
        return said

    @torch.inference_mode()
    def step(self, on_token: OnToken | None = None) -> dict[int, Sampled]:
        """Run one forward.

        Args:
            on_token: told (conversation, id, logprob) as tokens come.

        Returns:
            What was said in turns that have ended, by conversation. A last sampled token is not in
            the cache yet: it is to be the first of the next prompt (an end-of-turn token too).
        """
        self._close_ranks()
        hearing = self._next_to_hear()
        logits, speaking = self._forward(hearing)
        if not speaking:
            return {}
        uniform = [self._turns[c].noise() for c in speaking]
        ids, logprobs = sample(logits, uniform, self.temperature)
        ended = {}
        for c, token, logprob in zip(speaking, ids.tolist(), logprobs.tolist(), strict=True):
            turn = self._turns[c]
            turn.pending = [token]
            turn.said.ids.append(token)
            turn.said.logprobs.append(logprob)
            turn.said.finished = token == self.end_of_turn
            if turn.said.finished or len(turn.said.ids) == turn.budget:
                ended[c] = self._turns.pop(c).said
            if on_token is not None:
                on_token(c, token, logprob)
        return ended

    def _next_to_hear(self) -> dict[int, Sequence[int]]:
        """Choose what a forward appends to which conversations; take it from what is pending.

        Those who speak come first, by row, then those who listen, in the order of submission.
        """
        speaking = [c for c, turn in self._turns.items() if len(turn.pending) == 1 and self._ids[c]]
        speaking.sort(key=self._place.__getitem__)
        chosen: dict[int, Sequence[int]] = {c: self._turns[c].pending for c in speaking}
        room = max(FORWARD - len(chosen), BLOCK)
        for c, turn in self._turns.items():
            if c in chosen or not room:
                continue
            if not self._ids[c]:
                self._begin(c)
            chosen[c] = turn.pending[:room]
            room -= len(chosen[c])
        for c, ids in chosen.items():
            self._turns[c].pending = self._turns[c].pending[len(ids) :]
        return chosen

    def _begin(self, conversation: int) -> None:
        """Begin a row with what needs no computing: the past, and what another row begins with."""
        turn, place = self._turns[conversation], self._place[conversation]
        best, same = None, 0
        for other, ids in self._ids.items():
            shared = common_beginning([turn.pending, ids])
            if shared > same:
                best, same = other, shared
        same = min(same, len(turn.pending) - 1)  # the last is needed, for what follows it
        self._cache.make_room(self._before + same, self._rows)
        if best is not None:
            self._cache.copy(self._place[best], place, self._before + same)
            if self._kept_layers:
                self._kept[conversation] = [self.starts(best)[:same]]
            self._ids[conversation] = list(turn.pending[:same])
            turn.pending = turn.pending[same:]
        elif self._past is not None:
            rows, slots = torch.full((self._before,), place), torch.arange(self._before)
            for layer, pair in enumerate(self._past):
                self._cache.write(layer, rows, slots, *pair)

    def _forward(self, hearing: Mapping[int, Sequence[int]]) -> tuple[Tensor, list[int]]:
        """Append ids to some conversations.

        Returns:
            Logits (n, V) after the last ids of those who have nothing pending, and who they are.
        """
        if self._replayed is not None and all(
            len(ids) == 1 and not self._turns[c].pending for c, ids in hearing.items()
        ):
            return self._speak_all(hearing)
        places = [self._place[c] for c in hearing]
        counts = torch.tensor([len(ids) for ids in hearing.values()])
        starts = torch.tensor([self._before + len(self._ids[c]) for c in hearing])
        ends = counts.cumsum(0)
        first = torch.repeat_interleave(starts - ends + counts, counts)
        slots = first + torch.arange(len(first))
        rows = torch.repeat_interleave(torch.tensor(places), counts)
        longest = int(slots.max()) + 1
        self._cache.make_room(longest, self._rows)
        step = Step(
            self._cache,
            rows.to(self._device),
            slots.to(self._device),
            self._runs(places, counts.tolist(), starts.tolist()),
            longest,
        )
        filler = -len(rows) % (BLOCK if self._half else 1)
        ids = torch.tensor([i for new in hearing.values() for i in new] + [0] * filler)
        positions = torch.nn.functional.pad(slots, (0, filler))
        states = self._run(ids.to(self._device), positions.to(self._device), step)
        speaking, last = [], []
        for (c, new), end in zip(hearing.items(), ends.tolist(), strict=True):
            kept = None if states.kept is None else states.kept[end - len(new) : end]
            self._heard(c, new, kept)
            if not self._turns[c].pending:
                speaking.append(c)
                last.append(end - 1)
        read = states.last[last]
        if states.middle is not None:
            for c, pair in zip(speaking, torch.stack([read, states.middle[last]], 1), strict=True):
                self._spoken[c].append(pair)
        logits: Tensor = self.head(read)
        return logits, speaking

    def _heard(self, conversation: int, ids: Sequence[int], kept: Tensor | None) -> None:
        """Note what is in the cache now."""
        self._ids[conversation] += ids
        if kept is not None:
            self._kept[conversation].append(kept.clone())

    def _run(self, ids: Tensor, positions: Tensor, step: Step) -> _States:
        """Run the trunk."""
        out = self.trunk(
            input_ids=ids[None],
            position_ids=positions[None],
            use_cache=False,
            output_hidden_states=self._kept_layers > 0 or self._middle is not None,
            layout=step,
        )
        return _States(
            out.last_hidden_state[0],
            out.hidden_states[self._kept_layers][0] if self._kept_layers else None,
            None if self._middle is None else out.hidden_states[self._middle][0],
        )

    def _speak_all(self, hearing: Mapping[int, Sequence[int]]) -> tuple[Tensor, list[int]]:
        """Append one id to some conversations, in a forward of all rows of the cache.

        What the others get lies beyond their end, where nobody looks, until it is overwritten.
        """
        assert self._replayed is not None
        self._cache.make_room(self._cache.slots, self._rows)
        ids, slots = torch.zeros(2, self._cache.rows, dtype=torch.long)
        for c, place in self._place.items():
            slots[place] = self._before + len(self._ids[c])
            if c in hearing:
                ids[place] = hearing[c][0]
        logits, kept = self._replayed(self._speak, ids, slots)
        places = [self._place[c] for c in hearing]
        for (c, new), place in zip(hearing.items(), places, strict=True):
            self._heard(c, new, None if kept is None else kept[place : place + 1])
        return logits[places], [*hearing]

    def _speak(self, ids: Tensor, slots: Tensor) -> tuple[Tensor, Tensor | None]:
        """One token (R,) a row, at its slot (R,); give logits (R, V), and states that are kept."""
        room, rows = self._cache.room, torch.arange(len(ids), device=ids.device)
        hidden = torch.arange(room, device=ids.device) > slots[:, None]
        run = Run(0, len(ids), 1, room, Mask(hidden[:, None]))
        states = self._run(ids, slots, Step(self._cache, rows, slots, [run], room))
        return self.head(states.last), states.kept

    def _runs(
        self, places: Sequence[int], counts: Sequence[int], starts: Sequence[int]
    ) -> list[Run]:
        """Find rows that attend together: neighbours in the cache that hear one token each."""
        runs = []
        begin = 0
        for end in range(1, len(places) + 1):
            if end < len(places) and (
                counts[begin] == counts[end] == 1 and places[end] == places[end - 1] + 1
            ):
                continue
            seen = max(starts[begin:end]) + counts[begin]
            if self._half and counts[begin] == 1:
                seen = self._cache.room  # a part would be copied before the products
            tokens = torch.arange(seen)
            upto = torch.tensor(starts[begin:end])[:, None] + torch.arange(counts[begin])
            mask = None
            if counts[begin] > 1 or min(starts[begin:end]) + 1 < seen:
                mask = Mask((tokens > upto[:, :, None]).to(self._device))
            runs.append(Run(places[begin], end - begin, counts[begin], seen, mask))
            begin = end
        return runs

    def _close_ranks(self) -> None:
        """Move the last rows of the cache into places that were left, so that runs are long."""
        holders = {place: c for c, place in self._place.items()}
        for hole in range(len(holders)):
            if hole not in holders:
                last = max(holders)
                mover = holders.pop(last)
                if self._ids[mover]:  # of a row that has not begun, the cache may hold nothing yet
                    self._cache.copy(last, hole, self._before + len(self._ids[mover]))
                self._place[mover], holders[hole] = hole, mover
