"""The agent's language model: a frozen base, a trained adapter, and a frozen copy of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlchat.models import adapter_io
from rlchat.models.adapters import (
    POLICY,
    adapted,
    check_prefix,
    check_share,
    layer_of,
    virtual_embeddings,
    virtual_prefix_kv,
)
from rlchat.models.attention import layers_of, middle_layer, states_entering, trunk_and_head
from rlchat.models.by_rows.adapting import check_adapter
from rlchat.models.by_rows.padding import PaddedRows, padded_states
from rlchat.models.by_rows.way import by_rows
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.config import AdapterConfig
from rlchat.models.device import choose_device, choose_dtype, release_memory
from rlchat.models.exact.compatibility import check_model
from rlchat.models.exact.row_limit import check_room, row_limit
from rlchat.models.fetching import catalog
from rlchat.models.generation_model import GenerationModel, MergedCopies, prefix_kv_of, switched
from rlchat.models.kernels import fuse
from rlchat.models.loading import BaseInfo, LoadBase, load_base
from rlchat.models.packing import LaidRows, Packing, PrefixKV, last_layer, some_layers

REFERENCE = "reference"
PLAIN = ("llama",)  # architectures that are known to be the sum of their layers


class Policy:
    """One copy of the base weights with two adapters, and the chat template of its tokenizer.

    ``model`` holds the adapters ``policy`` (trained) and ``reference`` (frozen).
    """

    def __init__(
        self,
        model: PeftModel,
        template: ChatTemplate,
        base: BaseInfo,
        reading: adapter_io.Reading | None = None,
    ):
        """Wrap a PEFT model that has the adapter ``policy``; the reference is made a copy of it."""
        self.model, self.template, self.base, self._reading = model, template, base, reading
        model.eval()  # dropout off, in training too
        self._bare = False
        hf = model.get_base_model()
        assert isinstance(hf, PreTrainedModel)
        self.hf, self._merged, self._limit = hf, MergedCopies(hf), row_limit(hf)
        self.trunk, self.head = trunk_and_head(hf)
        self._depth = len(layers_of(hf))
        self.first_trained_layer = 0
        if REFERENCE not in model.peft_config:
            own = model.peft_config[POLICY]
            with torch.random.fork_rng():  # peft draws weights that the copy replaces
                model.add_adapter(REFERENCE, own, autocast_adapter_dtype=False)
        self.freeze_reference()
        fuse(model, hf.get_output_embeddings())

    @classmethod
    def create(
        cls,
        base: str,
        config: AdapterConfig,
        adapter: Path | None = None,
        seed: int = 0,
        say: catalog.Say = lambda line: None,
        load: LoadBase = load_base,
    ) -> Policy:
        """Load a base model and put a fresh adapter on it, or the one saved in ``adapter``.

        Args:
            base: a name of `rlchat models list`, a Hugging Face id or a local folder.
            config: of a fresh adapter; dtype and device count in either case.
            adapter: a folder with an adapter.
            seed: of a fresh adapter's weights.
            say: told what takes long.
            load: loads the base.

        Raises:
            UserError: no such model, or an adapter that does not fit it or is not computed in it.
        """
        device = choose_device(config.device)
        dtype = choose_dtype(config.dtype, device)
        model, tokenizer, info = load(base, dtype, say)
        torch.nn.Module.to(model, device)
        check_model(model, say)
        peft: PeftModel
        if adapter is None:
            peft = adapted(model, config, seed)
        else:
            adapter_io.check_base(adapter, info)
            peft = adapter_io.load_adapter(model, adapter, POLICY)
        check_prefix(peft)
        check_adapter(peft)
        reading = adapter_io.reading_of(adapter, model, config.max_message_tokens)
        return cls(peft, reading.template(tokenizer), info, reading)

    def think(self, setting: str) -> None:
        """Let the agent think before it replies, or not; see `ChatTemplate.thinking`.

        Raises:
            UserError: its chat template knows no thoughts.
        """
        self.template = self.template.thinking(setting)
        if self._reading is not None:
            self._reading = replace(self._reading, thinking=self.template.setting)

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the base weights."""
        return self.hf.dtype

    def parameters(self) -> list[nn.Parameter]:
        """The parameters of the adapter that are trained, in a fixed order."""
        return [p for _, p in self.named_parameters()]

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters of the adapter that are trained, with their names."""
        return [
            (name, parameter)
            for name, parameter in self.model.named_parameters()
            if f".{POLICY}" in name and (layer_of(name) or 0) >= self.first_trained_layer
        ]

    def freeze_reference(self) -> None:
        """Make the reference a copy of the policy as it is now, all of whose adapter trains."""
        named = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, parameter in named.items():
                if f".{POLICY}" in name:
                    named[name.replace(f".{POLICY}", f".{REFERENCE}")].copy_(parameter)
        self.model.set_adapter(POLICY)
        self.train_top(1.0)

    def load_reference(self, folder: Path) -> None:
        """Make another adapter of the same shape the reference, to measure how far they are.

        Raises:
            UserError: it is of another shape.
        """
        adapter_io.read_weights(self.model, folder, REFERENCE)

    def train_top(self, share: float) -> None:
        """Train the adapter in the top ``share`` of the layers; below, it stays as it is.

        The layers that have nothing to train, which policy and reference then have in common,
        need to run once for all forwards of the same tokens: see `frozen_prefix`.

        Raises:
            UserError: a share below 1 of an adapter that has no layers.
        """
        check_share(self.model.peft_config[POLICY].is_prompt_learning, share)
        top = self._depth - max(1, round(share * self._depth))
        adapted = [layer_of(n) or 0 for n, _ in self.model.named_parameters() if f".{POLICY}" in n]
        self.first_trained_layer = max(top, min(adapted))
        named = dict(self.model.named_parameters())
        trained = {name for name, _ in self.named_parameters()}
        for name, parameter in named.items():
            parameter.requires_grad_(name in trained)
            if f".{POLICY}" in name and name not in trained:
                own = named[name.replace(f".{POLICY}", f".{REFERENCE}")]
                assert torch.equal(parameter, own), f"{name} differs from the reference's"

    @contextmanager
    def using(self, adapter: str | None) -> Iterator[None]:
        """Switch to another adapter, or to the bare base (None), and back."""
        bare = self._bare
        try:
            self._bare = adapter is None
            with switched(self.model, adapter, bare):
                yield
        finally:
            self._bare = bare

    @property
    def is_reference(self) -> bool:
        """Whether the policy's adapter is, to the bit, the reference's: nothing was learned yet."""
        named = dict(self.model.named_parameters())
        return all(
            torch.equal(named[name], named[name.replace(f".{POLICY}", f".{REFERENCE}")])
            for name, _ in self.named_parameters()
        )

    @property
    def shared_layers(self) -> int:
        """Layers that need to run once for all forwards of the same tokens.

        None do in a model of a kind that is not known to be the sum of its layers.
        """
        return self.first_trained_layer if self._is_plain else 0

    @property
    def _is_plain(self) -> bool:
        """Whether the model is known to be the sum of its layers, and is run in packings."""
        return self.hf.config.model_type in PLAIN and by_rows(self.hf) is None

    def packing(self, rows: Sequence[Tensor]) -> LaidRows:
        """Lay out rows of token ids (T,) for a forward with, or without, an adapter.

        Raises:
            UserError: the model's positions end before the longest row does.
        """
        config, virtual, before = self.model.peft_config[POLICY], 0, 0
        if isinstance(config, PromptTuningConfig) and not self._bare:
            virtual = config.num_virtual_tokens
        elif isinstance(config, PrefixTuningConfig) and not self._bare:
            before = config.num_virtual_tokens
        if self._limit is not None:
            check_room(self._limit, virtual + before + max(map(len, rows)))
        if by_rows(self.hf) is not None:
            return PaddedRows.of([row.to(self.device) for row in rows])
        return Packing.of([row.to(self.device) for row in rows], virtual, before)

    @torch.no_grad()
    def frozen_prefix(self, packing: LaidRows) -> Tensor:
        """Run the layers that have nothing to train, once for policy and reference.

        Returns:
            Where `trunk_states` can start from: states (N, D), or the token ids (N,) if all layers
            train or the model is of a kind that is not known to be the sum of its layers.
        """
        if not self.shared_layers:
            return packing.ids
        assert isinstance(packing, Packing)
        with some_layers(self.trunk, slice(0, self.first_trained_layer), norm=False):
            return self._run(packing.ids, packing, middle=False)[0]

    def trunk_states(
        self, start: Tensor, packing: LaidRows, at: Tensor, middle: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Run the trunk over rows, and read the states of some tokens.

        Args:
            start: (N,) token ids, or (N, D) states that `frozen_prefix` gave.
            packing: the rows.
            at: (A,) places of the tokens whose states are read.
            middle: also give the states two thirds up.

        Returns:
            Last states (A, D), and those of the middle layer or None.
        """
        trunk: Any = self.trunk
        if isinstance(packing, PaddedRows):
            place = middle_layer(self.hf.config.num_hidden_layers) if middle else None
            last, seen = padded_states(self.hf, packing, place)
            return last[at], None if seen is None else seen[at]
        assert isinstance(packing, Packing)
        if not self._is_plain:
            last, seen = self._run(start, packing, middle)
            return last[at], None if seen is None else seen[at]
        first = self.first_trained_layer if start.is_floating_point() else 0
        layers = len(trunk.layers)
        bare = not packing.virtual and not packing.before
        if not bare or (middle and middle_layer(layers) == layers):
            with some_layers(trunk, slice(first, None)):
                last, seen = self._run(start, packing, middle)
            return last[at], None if seen is None else seen[at]
        with some_layers(trunk, slice(first, layers - 1), norm=False):
            states, seen = self._run(start, packing, middle)
        rotary = trunk.rotary_emb(states, position_ids=packing.positions[None])
        last = last_layer(trunk.layers[-1], states, rotary, packing, at)
        return trunk.norm(last), None if seen is None else seen[at]

    def _layers(self) -> nn.ModuleList:
        """The layers that the trunk has now, some of which may be left out; see `some_layers`."""
        if self._is_plain:
            assert isinstance(self.trunk.layers, nn.ModuleList)
            return self.trunk.layers
        return layers_of(self.hf)

    def _run(self, start: Tensor, packing: Packing, middle: bool) -> tuple[Tensor, Tensor | None]:
        """Run the trunk as it is now over ids or states; see `trunk_states`."""
        given = {"inputs_embeds" if start.is_floating_point() else "input_ids": start[None]}
        if packing.virtual:
            words = self.hf.get_input_embeddings()(start[packing.virtual :])
            prompt = virtual_embeddings(self.model, self.model.active_adapter)
            given = {"inputs_embeds": torch.cat([prompt, words])[None]}
        elif packing.before:
            prefix_kv = virtual_prefix_kv(self.model, self.model.active_adapter)
            packing = replace(packing, prefix_kv=prefix_kv)
        skipped = self.first_trained_layer if start.is_floating_point() else 0
        place = max(0, middle_layer(self._depth) - skipped)
        with states_entering(self._layers(), place if middle else None) as seen:
            out = self.trunk(
                **given,
                position_ids=packing.positions[None],
                use_cache=False,
                layout=packing,
            )
        last = out.last_hidden_state[0]
        return last, (seen[0][0] if seen else last) if middle else None

    @torch.no_grad()
    def generation_model(self, adapter: str | None = POLICY) -> GenerationModel:
        """A plain model for rollouts, with an adapter as it is now merged in.

        Later ones leave it alone while somebody keeps it; see `MergedCopies`.

        Args:
            adapter: ``policy``, ``reference``, or None for the base as it was before training.
        """
        return self._merged.generation_model(adapter, lambda model: self._prefix_of(adapter, model))

    def _prefix_of(self, adapter: str | None, model: PreTrainedModel) -> PrefixKV | None:
        """Virtual tokens cannot be merged: they come before every conversation."""
        config = self.model.peft_config[POLICY]
        if adapter is not None and isinstance(config, PrefixTuningConfig):
            return virtual_prefix_kv(self.model, adapter)
        if adapter is not None and isinstance(config, PromptTuningConfig):
            return prefix_kv_of(model, virtual_embeddings(self.model, adapter))
        return None

    def free_merged(self) -> None:
        """Drop what was merged for rollouts: learning needs the memory.

        Generation models of before refuse to be used from then on.
        """
        self._merged.free()
        release_memory()

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write the policy's adapter as one ordinary PEFT adapter over the original base.

        Args:
            folder: is replaced as a whole.
            weights: by parameter name, used instead of the model's own (full-precision ones).
        """
        adapter_io.write_adapter(folder, self.model, POLICY, self.base, weights, self._reading)
