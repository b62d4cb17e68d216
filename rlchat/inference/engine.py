"""Engines that sample many conversations at once: our decoder, or transformers' paged one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor

from rlchat.inference.decoder import Decoder, Noise, Sampled
from rlchat.inference.paged import Paged
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
            engine has no place for.
    """
    before = 0 if generation.prefix_kv is None else generation.prefix_kv[0][0].shape[1]
    check_room(row_limit(generation.model), slots + before)
    if name == "own":
        yield Decoder(
            generation, rows, slots, stop_ids, temperature, kept_layers, keep_sampled_states
        )
        return
    paged = Paged(generation, rows, slots, stop_ids, temperature)
    try:
        yield paged
    finally:
        paged.close()
