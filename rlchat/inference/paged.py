"""transformers' paged continuous batching as an engine."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from rlchat.errors import RunError, UserError
from rlchat.inference.decoder import FORWARD
from rlchat.inference.rows import Noise, Sampled
from rlchat.models.generation_model import GenerationModel

PAGE = 32  # tokens in a page of the paged cache: what a conversation wastes, half of it on average


WAIT = 0.01  # seconds that a step waits for a turn to end, before users' answers are looked for


class Paged:
    """transformers' continuous batching, which has kernels and graphs for GPUs.

    Every turn is a request of the whole conversation; pages that earlier turns left are shared, not
    computed again. It draws from one generator for all rows, seeded by the first row's noise, so
    that what is sampled depends on which turns run side by side, and it keeps no states.
    """

    def __init__(
        self,
        generation: GenerationModel,
        rows: int,
        slots: int,
        stop_ids: Collection[int],
        temperature: float,
    ):
        """See `Decoder`; the model is copied, not its weights."""
        if generation.prefix_kv is not None:
            raise UserError(
                "expected an adapter that can be merged for --rollout.engine paged, got virtual "
                "tokens; leave the engine at own, or choose another --adapter.method"
            )
        shared: dict[int, Any] = {id(p): p for p in generation.model.parameters()}
        self._model: Any = copy.deepcopy(generation.model, shared)
        self._model.set_attn_implementation("sdpa")
        self._source = generation  # kept, so that nothing else is merged into the shared weights
        self._stop_ids, self._slots, self._rows = sorted(stop_ids), slots, rows
        self._generation = GenerationConfig(
            do_sample=temperature > 0,
            temperature=temperature or None,
            top_k=0,
            top_p=1.0,
            eos_token_id=self._stop_ids,
            max_new_tokens=slots,
        )
        self._manager: Any = None
        self._ids: dict[int, list[int]] = {}  # conversation -> its tokens
        self._turns: dict[str, int] = {}  # request -> conversation
        self._requests = 0

    @property
    def busy(self) -> bool:
        """Whether a turn is in progress."""
        return bool(self._turns)

    def length(self, conversation: int) -> int:
        """Tokens of the conversation so far."""
        return len(self._ids.get(conversation, ()))

    def forget(self, conversation: int) -> None:
        """Let a conversation begin anew; its pages are used again when they are needed."""
        self._ids.pop(conversation, None)

    def rewind(self, conversation: int, tokens: int) -> None:
        """Leave no more than the first so many tokens of a conversation; see `Decoder.rewind`."""
        del self._ids[conversation][tokens:]

    def cached_states(self, conversation: int) -> None:
        """Nothing: the paged engine keeps no states."""

    def sampled_states(self, conversation: int) -> None:
        """Nothing: the paged engine keeps no states."""

    def submit(
        self, conversation: int, prompt: Sequence[int], noise: Noise, max_new_tokens: int
    ) -> None:
        """Give a conversation its next prompt; see `Decoder.submit`."""
        if self._manager is None:
            self._manager = self._start(int(noise() * 2**31))
        ids = self._ids.setdefault(conversation, [])
        ids += prompt
        self._requests += 1
        request = self._manager.add_request(
            list(ids),
            f"{conversation} {self._requests}",
            max_new_tokens,
            eos_token_id=self._stop_ids,
        )
        self._turns[request] = conversation

    def step(self) -> dict[int, Sampled]:
        """Wait a moment for turns to end.

        Raises:
            RunError: transformers gave up; with its reason.
        """
        generated: dict[int, Sampled] = {}
        while self._turns and (out := self._manager.get_result(timeout=0 if generated else WAIT)):
            if out.error is not None:
                raise RunError(f"transformers' continuous batching stopped: {out.error}")
            conversation = self._turns.pop(out.request_id)
            ids = [int(i) for i in out.generated_tokens]
            self._ids[conversation] += ids
            generated[conversation] = Sampled(ids, list(out.logprobs), ids[-1] in self._stop_ids)
        if not generated and not self._manager.is_running():
            raise RunError("transformers' continuous batching stopped without a word")
        return generated

    def close(self) -> None:
        """Stop generating, and give the cache back."""
        if self._manager is not None:
            self._manager.stop(hard_stop=True)

    def _start(self, seed: int) -> Any:
        """Start transformers' own thread, with a cache for all rows."""
        config = ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=self._rows * -(-self._slots // PAGE) + 1,
            max_batch_tokens=FORWARD,
            max_requests_per_batch=self._rows,
            return_logprobs=True,
            seed=seed,
        )
        with torch.inference_mode(False):
            manager = self._model.init_continuous_batching(self._generation, config)
        manager.start()
        return manager
