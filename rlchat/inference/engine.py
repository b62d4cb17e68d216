"""Engines that sample many conversations at once: our decoders, or transformers' paged one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor

from rlchat.errors import UserError
from rlchat.inference.decoder import Decoder
from rlchat.inference.paged import Paged
from rlchat.inference.row_decoder import RowDecoder
from rlchat.inference.rows import Noise, Sampled
from rlchat.models.by_rows.way import by_rows
from rlchat.models.exact.row_limit import check_room, row_limit
from rlchat.models.generation_model import GenerationModel
from rlchat.settings import EngineName


class Engine(Protocol):
    """Samples turns of conversations, each at its own pace; see `Decoder` for each method."""

    @property
    def busy(self) -> bool:
        """Whether a turn is in progress."""
        ...

    def length(self, conversation: int) -> int:
        """Tokens of the conversation that need not be submitted again."""
        ...

    def forget(self, conversation: int) -> None:
        """Make room for another conversation in the place of this one."""
        ...

    def rewind(self, conversation: int, tokens: int) -> None:
        """Leave no more than the first so many tokens of a conversation."""
        ...

    def cached_states(self, conversation: int) -> Tensor | None:
        """States after the kept layers, if any were kept."""
        ...

    def sampled_states(self, conversation: int) -> Tensor | None:
        """States that sampled tokens were drawn from, if they were kept."""
        ...

    def submit(
        self, conversation: int, prompt: Sequence[int], noise: Noise, max_new_tokens: int
    ) -> None:
        """Append ``prompt`` to a conversation, and generate a turn after it."""
        ...

    def step(self) -> dict[int, Sampled]:
        """Go on generating; give what was sampled in turns that have ended."""
        ...


def decoder_of(
    generation: GenerationModel,
    rows: int,
    slots: int,
    stop_ids: Collection[int],
    temperature: float = 1.0,
    kept_layers: int = 0,
    keep_sampled_states: bool = False,
) -> Decoder | RowDecoder:
    """Make the decoder that computes a model exactly; the arguments are those of `Decoder`."""
    if by_rows(generation.model) is not None:
        return RowDecoder(generation, stop_ids, temperature)
    return Decoder(generation, rows, slots, stop_ids, temperature, kept_layers, keep_sampled_states)


@contextmanager
def engine(
    name: EngineName,
    generation: GenerationModel,
    rows: int,
    slots: int,
    stop_ids: Collection[int],
    temperature: float,
    kept_layers: int,
    keep_sampled_states: bool,
) -> Iterator[Engine]:
    """Make an engine for as long as it is needed; the arguments are those of `Decoder`.

    Raises:
        UserError: the model's positions end before ``slots`` do, or virtual tokens, which the paged
            engine has no place for, or a model that it does not compute exactly.
    """
    before = 0 if generation.prefix_kv is None else generation.prefix_kv[0][0].shape[1]
    check_room(row_limit(generation.model), slots + before)
    if name == "own":
        yield decoder_of(
            generation, rows, slots, stop_ids, temperature, kept_layers, keep_sampled_states
        )
        return
    if by_rows(generation.model) is not None:
        raise UserError(
            f"expected a model whose rows are packed for --rollout.engine paged; got "
            f"{type(generation.model).__name__}, which is run row by row; leave the engine at own"
        )
    paged = Paged(generation, rows, slots, stop_ids, temperature)
    try:
        yield paged
    finally:
        paged.close()
