"""Sampling many conversations at once, with a key-value cache that lives as long as they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from rlchat.policy import trunk_and_head

GROWTH = 128  # slots that the cache grows by: copying is rare, and little lies unused
LISTENING = 16  # prompts in one forward, of similar lengths: more would be padding

Noise = Callable[[], float]  # uniform in [0, 1), a row's own


@dataclass(slots=True)
class Sampled:
    """What one row said in one turn.

    ``logprobs`` are nats under the distribution that was sampled from. ``finished`` is False if
    the token budget ended the turn.
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


class _Rows(CacheLayerMixin):
    """One layer's keys and values for every row, each token at its own position.

    There is no padding inside the cache: token p of a row lies in slot p, and a query at
    position p sees the slots up to p. Padded queries write into one more slot, which nobody sees.
    """

    def __init__(self, view: _View):
        super().__init__()
        self.view = view

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate (rows, heads, room + 1, dim), once the first states tell heads and dim.

        Heads come before slots, so that attention's products read a slice as it lies.
        """
        _, heads, _, dim = key_states.shape
        shape = (self.view.rows, heads, self.view.room + 1, dim)
        self.keys, self.values = key_states.new_zeros(shape), value_states.new_zeros(shape)
        self.is_initialized = True

    def grow(self) -> None:
        """Make as many slots as the view has room for, and keep what is in the old ones."""
        old = self.keys, self.values
        if old[0] is None or old[1] is None:
            return
        self.lazy_initialization(old[0], old[1])
        for new, kept in zip((self.keys, self.values), old, strict=True):
            assert new is not None and kept is not None
            new[:, :, : kept.shape[2] - 1] = kept[:, :, :-1]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write (n, heads, q, dim) states; return all that the n rows can see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        where = (self.view.row_index, slice(None), self.view.written)
        self.keys[where] = key_states.transpose(1, 2)
        self.values[where] = value_states.transpose(1, 2)
        rows, seen = self.view.rows_seen, self.view.seen
        return self.keys[rows, :, :seen], self.values[rows, :, :seen]

    def exchange(self, a: int, b: int, used: int) -> None:
        """Let the first ``used`` slots of two rows change places."""
        for states in (self.keys, self.values):
            if states is not None:
                kept = states[a, :, :used].clone()
                states[a, :, :used] = states[b, :, :used]
                states[b, :, :used] = kept

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Slots that are attended to, and the first one."""
        return self.view.seen, 0

    def get_seq_length(self) -> int:
        """Slots in use by the longest row."""
        return self.view.seen

    def get_max_length(self) -> int:
        """Slots there are."""
        return self.view.slots


@dataclass
class _View:
    """Which rows and slots the forward in progress writes and sees."""

    rows: int
    slots: int  # at most
    room: int = 0  # by now
    row_index: Tensor = field(default_factory=lambda: torch.empty(0, 1, dtype=torch.long))
    rows_seen: slice | Tensor = field(default_factory=lambda: slice(0))  # a slice is not copied
    written: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.long))
    seen: int = 0


class Decoder:
    """Speaks for up to ``rows`` conversations at a time.

    Rows that still speak are kept at the front of the cache, so that a forward runs on a plain
    slice of it: when one falls silent it changes places with the last that has not.
    """

    def __init__(self, model: PreTrainedModel, rows: int, slots: int, kept_layers: int = 0):
        """Make an empty cache of ``rows`` conversations with ``slots`` tokens each.

        The states after the first ``kept_layers`` layers are kept for `starts`, if there are any.
        """
        self.trunk, self.head = trunk_and_head(model)
        self.device = next(model.parameters()).device
        self._view = _View(rows, slots)
        self._layers = [_Rows(self._view) for _ in range(model.config.num_hidden_layers)]
        self._cache = Cache(layers=[*self._layers])
        self._place = list(range(rows))  # conversation -> row of the cache
        self._tenant = list(range(rows))  # row of the cache -> conversation
        self.lengths = [0] * rows  # tokens in the cache, by conversation
        self._kept_layers = kept_layers
        self._kept: list[list[Tensor]] = [[] for _ in range(rows)]  # by conversation, in pieces

    def forget(self, conversation: int) -> None:
        """Make room for another conversation in the place of this one."""
        self.lengths[conversation] = 0
        self._kept[conversation] = []

    def starts(self, conversation: int) -> Tensor:
        """States (T, D) after the kept layers, of the tokens that are in the cache."""
        return torch.cat(self._kept[conversation])

    @torch.inference_mode()
    def generate(
        self,
        prompts: Mapping[int, Sequence[int]],
        noise: Mapping[int, Noise],
        max_new_tokens: int,
        end_of_turn: int,
        temperature: float = 1.0,
        on_token: Callable[[int, int], None] | None = None,
    ) -> dict[int, Sampled]:
        """Append the prompts to their conversations, and let each speak until it has finished.

        Args:
            prompts: new token ids by conversation, at least one each.
            noise: by conversation, the source of the one uniform number that a token takes.
            max_new_tokens: budget of the turn.
            end_of_turn: the id that ends a turn.
            temperature: 0 is greedy.
            on_token: told (conversation, id) as tokens come.

        Returns:
            What each conversation said. The last sampled token is not in the cache yet: it is
            to be the first of the next prompt (an end-of-turn token too).
        """
        said = {c: Sampled() for c in prompts}
        speaking = list(prompts)
        if not speaking:
            return said
        self._gather(speaking)
        speaking = [self._tenant[r] for r in range(len(speaking))]
        logits = self._listen([prompts[c] for c in speaking], speaking)
        while speaking:
            uniform = [noise[c]() for c in speaking]
            ids, logprobs = sample(logits, uniform, temperature)
            for c, i, logprob in zip(speaking, ids.tolist(), logprobs.tolist(), strict=True):
                said[c].ids.append(i)
                said[c].logprobs.append(logprob)
                said[c].finished = i == end_of_turn
                if on_token is not None:
                    on_token(c, i)
            still = [
                c for c in speaking if not said[c].finished and len(said[c].ids) < max_new_tokens
            ]
            if not still:
                return said
            if len(still) < len(speaking):
                self._gather(still)
                still = [self._tenant[r] for r in range(len(still))]
            speaking = still
            logits = self._forward([[said[c].ids[-1]] for c in speaking], speaking)
        return said

    def _listen(self, prompts: Sequence[Sequence[int]], conversations: Sequence[int]) -> Tensor:
        """Append prompts to the rows at the front; return the logits after each, (n, V).

        An order number is short and a record long: rows of similar lengths go together.
        """
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        heard = [
            self._forward(
                [prompts[row] for row in rows], [conversations[row] for row in rows], rows
            )
            for rows in (order[i : i + LISTENING] for i in range(0, len(order), LISTENING))
        ]
        return torch.cat(heard)[torch.tensor(order).argsort().to(self.device)]

    def _forward(
        self,
        new_ids: Sequence[Sequence[int]],
        conversations: Sequence[int],
        rows: Sequence[int] | None = None,
    ) -> Tensor:
        """Append ids to some rows; return the logits after each row's last, (n, V).

        Args:
            new_ids: at least one each.
            conversations: whose ids they are.
            rows: of the cache, where these conversations are; None is the rows at the front.
        """
        lengths = torch.tensor([len(ids) for ids in new_ids])
        width = int(lengths.max())
        ids = torch.zeros(len(new_ids), width, dtype=torch.long)
        for row, row_ids in enumerate(new_ids):
            ids[row, : len(row_ids)] = torch.tensor(row_ids)
        start = torch.tensor([self.lengths[c] for c in conversations])
        real = torch.arange(width) < lengths[:, None]
        positions = torch.where(real, start[:, None] + torch.arange(width), 0)
        view = self._view
        view.seen = int(positions.max()) + 1
        assert view.seen <= view.slots, f"{view.seen} tokens in a cache of {view.slots}"
        if view.seen > view.room:
            view.room = min(view.slots, -(-view.seen // GROWTH) * GROWTH)
            for layer in self._layers:
                layer.grow()
        index = torch.arange(len(new_ids)) if rows is None else torch.tensor(rows)
        view.row_index = index.to(self.device)[:, None]
        view.rows_seen = slice(len(new_ids)) if rows is None else view.row_index[:, 0]
        view.written = torch.where(real, positions, view.room).to(self.device)
        visible = torch.arange(view.seen) <= positions[:, :, None]  # (n, q, seen)
        out = self.trunk(
            input_ids=ids.to(self.device),
            attention_mask=visible[:, None].to(self.device),
            position_ids=positions.to(self.device),
            past_key_values=self._cache,
            use_cache=True,
            output_hidden_states=self._kept_layers > 0,
        )
        for row, (c, row_ids) in enumerate(zip(conversations, new_ids, strict=True)):
            self.lengths[c] += len(row_ids)
            if self._kept_layers:
                states = out.hidden_states[self._kept_layers]
                self._kept[c].append(states[row, : len(row_ids)].clone())
        last = out.last_hidden_state[torch.arange(len(new_ids)), (lengths - 1).to(self.device)]
        logits: Tensor = self.head(last)
        return logits.float()

    def _gather(self, conversations: Sequence[int]) -> None:
        """Bring the rows of these conversations to the front of the cache."""
        wanted = set(conversations)
        free = [r for r in range(len(wanted)) if self._tenant[r] not in wanted]
        late = [self._place[c] for c in conversations if self._place[c] >= len(wanted)]
        for a, b in zip(free, late, strict=True):
            first, second = self._tenant[a], self._tenant[b]
            used = max(self.lengths[first], self.lengths[second])
            for layer in self._layers:
                layer.exchange(a, b, used)
            self._tenant[a], self._tenant[b] = second, first
            self._place[first], self._place[second] = b, a


def sample(logits: Tensor, uniform: Sequence[float], temperature: float) -> tuple[Tensor, Tensor]:
    """Draw one token a row, by inverting the cumulative distribution at the row's number.

    Args:
        logits: (n, V), float32.
        uniform: n numbers in [0, 1).
        temperature: divides the logits; 0 takes the largest.

    Returns:
        ids (n,) and their logprobs (n,), nats under the distribution drawn from.
    """
    if temperature == 0:
        logprobs = logits.log_softmax(-1)
        best = logprobs.argmax(-1)
        return best, logprobs.gather(-1, best[:, None])[:, 0]
    logprobs = (logits / temperature).log_softmax(-1)
    cumulative = logprobs.exp().cumsum(-1)
    # Rounding leaves the last entry near 1, not at it, and may round the number up to 1: the point
    # is kept below the last entry, or a token of probability 0 could be drawn.
    total = cumulative[:, -1:]
    point = total * torch.tensor(uniform, dtype=logits.dtype, device=logits.device)[:, None]
    point = torch.minimum(point, total.nextafter(torch.zeros_like(total)))
    ids = torch.searchsorted(cumulative, point, right=True)
    return ids[:, 0], logprobs.gather(-1, ids)[:, 0]
