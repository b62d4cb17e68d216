"""Which layers of a model a small one keeps: one of each kind, as its settings tell them apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MOST = 8  # layers that are kept, at most

_COUNTS = re.compile(r"^(num_(hidden_|encoder_|decoder_)?layers|n_layers?|(en|de)coder_layers)$")
_BLOCKS = re.compile(r"^num_blocks$")
_FIRST = re.compile(r"^first_k_dense|dense_layers$|layer_start|start_layer|max_window_layers")
_LAST = re.compile(r"shared_layers$")
_PERIOD = re.compile(r"(period|interval|freq|frequency|_step)$|every_n|sliding_window_pattern")
_OFFSET = re.compile(r"(period|layer)\w*_offset$|_offset$")
_PLACES = re.compile(r"layer|idx|indices")
_CYCLE = re.compile(r"block_types|pattern")


def layer_count(settings: Mapping[str, Any], names: Mapping[str, str]) -> int:
    """How many layers settings ask for; of an encoder with a decoder, how many of the latter."""
    found = {
        names.get(name, name): value
        for name, value in settings.items()
        if type(value) is int and (_COUNTS.search(name) or _BLOCKS.search(name))
    }
    for name in ("decoder_layers", "num_decoder_layers", "num_hidden_layers"):
        if name in found:
            return found[name]
    return max(found.values(), default=0)


def shrink_layers(settings: dict[str, Any], names: Mapping[str, str]) -> None:
    """Keep one layer of each kind, two at least, and of what is set by layer what belongs to those.

    Args:
        settings: change in place.
        names: transformers' own, of settings that have others.
    """
    count = layer_count(settings, names)
    kept = _kept(settings, count)
    for name, value in settings.items():
        if type(value) is int:
            settings[name] = _of_kept(name, value, kept, count)
        elif _by_layer(name, value, count):
            chosen = [value[layer] for layer in kept]
            settings[name] = "".join(chosen) if isinstance(value, str) else chosen
        elif runs := _runs(value, count):
            settings[name] = [[[runs[layer]], 1] for layer in kept]
        elif _are_places(name, value, count):
            settings[name] = [i for i, layer in enumerate(kept) if layer in value]
        elif name == "per_layer_config" and isinstance(value, dict):
            own = {int(layer): changes for layer, changes in value.items()}
            settings[name] = {i: own[layer] for i, layer in enumerate(kept) if layer in own}


def _of_kept(name: str, value: int, kept: list[int], count: int) -> int:
    """What a number of layers becomes when few are kept; other numbers stay."""
    if _COUNTS.search(name) or _BLOCKS.search(name):
        return min(value, len(kept))
    if _FIRST.search(name):
        return sum(layer < value for layer in kept)
    if _LAST.search(name):
        return sum(layer >= count - value for layer in kept)
    if _PERIOD.search(name) and value > len(kept):
        return 2
    return min(value, len(kept) - 1) if _OFFSET.search(name) else value


def _kept(settings: Mapping[str, Any], count: int) -> list[int]:
    """The first layers of each kind, two if there is room; all of a pattern that is repeated."""
    of: dict[str, list[int]] = {}
    for layer in range(count):
        of.setdefault(_kind(settings, count, layer), []).append(layer)
    cycle = _cycle(settings, count)
    first, second = ([own[i] for own in of.values() if i < len(own)] for i in (0, 1))
    wanted = dict.fromkeys([*first, *range(min(count, cycle)), *second])
    return sorted([*wanted][:MOST])


def _cycle(settings: Mapping[str, Any], count: int) -> int:
    """After how many layers kinds come again where no list has an entry for each layer, or 0."""
    if any(_by_layer(name, value, count) for name, value in settings.items()):
        return 0
    found = [0]
    for name, value in settings.items():
        if _CYCLE.search(name) and isinstance(value, list):
            found.append(len(value))
        elif type(value) is int and _PERIOD.search(name) and value <= MOST:
            found.append(value)
    return max(found)


def _kind(settings: Mapping[str, Any], count: int, layer: int) -> str:
    """What settings say of a layer alone."""
    said: list[Any] = []
    for name, value in settings.items():
        if _by_layer(name, value, count):
            said.append(value[layer])
        elif runs := _runs(value, count):
            said.append(runs[layer])
        elif _are_places(name, value, count):
            said.append(layer in value)
        elif type(value) is int and _FIRST.search(name):
            said.append(layer < value)
        elif type(value) is int and _LAST.search(name):
            said.append(layer >= count - value)
        elif name == "per_layer_config" and isinstance(value, dict):
            own = {int(index): changes for index, changes in value.items()}
            said.append(own.get(layer))
    return repr(said)


def _by_layer(name: str, value: Any, count: int) -> bool:
    """Whether a setting is a list, or a word of letters, that has one entry a layer."""
    if isinstance(value, str):
        return len(value) == count and "pattern" in name
    return isinstance(value, list | tuple) and len(value) == count


def _runs(value: Any, count: int) -> list[Any]:
    """Kinds of layers by layer, of a list that says how often each series of kinds is repeated."""
    if not isinstance(value, list | tuple) or not value:
        return []
    for run in value:
        if not (isinstance(run, list | tuple) and len(run) == 2 and isinstance(run[0], list)):
            return []
        if type(run[1]) is not int:
            return []
    kinds = [kind for series, times in value for kind in series * times]
    return kinds if len(kinds) == count else []


def _are_places(name: str, value: Any, count: int) -> bool:
    """Whether a setting lists layers by their numbers."""
    if not _PLACES.search(name) or not isinstance(value, list | tuple) or not value:
        return False
    if not all(type(place) is int and 0 <= place < count for place in value):
        return False
    return list(value) == sorted(set(value))
