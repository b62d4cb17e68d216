"""Settings of a model made small: what decides what it computes stays, what costs is scaled down.

Settings are those of a configuration file, and small ones become a configuration as a file does:
what a family derives from others is derived anew. A rule goes by what a name says (heads, experts,
windows) or by what values have to do with each other (a width that is twice another's stays so), so
that families that are not known yet shrink by the same rules.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedConfig

from rlchat.models.exact.tiny_layers import layer_count, shrink_layers

HEAD_DIM, VALUE_DIM, WIDTH, WORDS = 16, 12, 48, 96
WINDOW, CONTEXT, ROOM = 6, 24, 64  # tokens: of a window, of an original context, of positions

Settings = dict[str, Any]

_SMALLER = tuple(  # what the names of settings say, and how large each may be; the first counts
    (re.compile(pattern), most)
    for pattern, most in (
        (r"^attention_chunk_size$", CONTEXT),
        (r"window|^local_attention$|chunk_length|^index_topk", WINDOW),
        (r"budget$", 8),
        (r"chunk_size$|d_state$|state_size$|dt_rank$|time_step_rank$|rank$", HEAD_DIM),
        (r"^n_shared_experts$|^num_shared_experts$|topk_group", 1),
        (r"experts_per_tok|^moe_(k|topk|top_k)$|top_?k|^n_group$|expert_group$|centroids$", 2),
        (r"intermediate|ffn_(dim|hidden_size)$|^(n_inner|d_inner|d_?ff|expansion_size)$", WIDTH),
        (r"feed_forward_size$", WIDTH),
        (r"codebook_size$", 4 * HEAD_DIM),
        (r"vocab|^n_words$|^n_token$", WORDS),
        (r"experts$|expert_num$", 8),
        (r"v_head_dim$", VALUE_DIM),
        (r"^qk_nope_head_dim$", HEAD_DIM),
        (r"^rotary_dim$|^qk_rope_head_dim$", HEAD_DIM // 2),
        (r"^image_size$|^crop_size$", WORDS),
    )
)
_HEADS = re.compile(r"(heads?|heads_\w+|n_?groups|query_groups)$")
_HEAD_DIM = re.compile(r"(head_dim|head_?size|headdim|d_head|d_kv|kv_channels)$")
_HEAD_WORDS = {"num", "n", "d", "heads", "head", "headdim", "dim", "size", "attention"}
_WIDTH = re.compile(r"(hidden_size\w*|size|dim|dims|width|channels|features|d_model|d_ssm|embd?)$")
_ROOM = re.compile(r"max_\w*positions$|^n_ctx$|^n_positions$|max_seq_len$|^model_max_length$")
_TOKEN = re.compile(r"_token_id$|_token_index$|^(bos|eos|pad|unk|mask)_index$")


def shrunk(config: PreTrainedConfig, words: int = WORDS, room: int = ROOM) -> PreTrainedConfig:
    """A configuration of the same kind whose model costs next to nothing.

    Args:
        config: stays as it is.
        words: of its vocabularies, at most.
        room: its positions, unless it has an original context that is to be exceeded.
    """
    settings = _settings(config)
    for aside in ("quantization_config", "_name_or_path", "transformers_version"):
        settings.pop(aside, None)
    parts = [*_parts(config, settings)]
    main = next((p for p in parts if p.config is config.get_text_config(decoder=True)), parts[0])
    base = next((part.head_dim for part in (main, *parts) if part.head_dim), HEAD_DIM)
    for part in parts:
        part.shrink_heads(base)
    known = {p.width: p.new_width for p in reversed([main, *parts]) if p.width}
    for part in parts:
        part.shrink_numbers(known, words)
        part.shrink_context(room)
        part.shrink_layers()
        part.settings["dtype"] = "float32"
    small = type(config).from_dict(settings)
    small._attn_implementation = "eager"
    return small


def _settings(config: PreTrainedConfig) -> Settings:
    """What a file would say of a configuration, with all that single layers have of their own."""
    config = copy.deepcopy(config)
    for part in (config, *vars(config).values()):
        if isinstance(part, PreTrainedConfig) and part.is_heterogeneous:
            part.serialize_explicit_per_layer_config = True
    settings: Settings = config.to_dict()
    return settings


def rope_settings(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """The rotary settings of a model: one, or one a kind of layer, or none."""
    return _ropes(getattr(config, "rope_parameters", None))


def _ropes(found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, dict):
        return []
    nested = [value for value in found.values() if isinstance(value, dict)]
    return nested or [found]


def _parts(config: PreTrainedConfig, settings: Settings) -> Iterator[_Part]:
    """A configuration and those in it, outermost first."""
    names = {own: name for name, own in type(config).attribute_map.items()}
    yield _Part(config, settings, names)
    for name, value in settings.items():
        inner = vars(config).get(name)
        if isinstance(inner, PreTrainedConfig) and isinstance(value, dict):
            yield from _parts(inner, value)


def _is_number(value: Any) -> bool:
    return type(value) is int


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


@dataclass
class _Part:
    """The settings of one model, or of one of the models that it is composed of.

    Attributes:
        config: they were read from; it does not change.
        settings: change in place.
        names: what transformers calls a setting that a family gives a name of its own.
    """

    config: PreTrainedConfig
    settings: Settings
    names: Mapping[str, str]
    new_width: int = 2 * HEAD_DIM

    def __post_init__(self) -> None:
        """Keep what was, to compare values with."""
        self.width = self._number("hidden_size") or self._number("d_model")
        self.heads = self._number("num_attention_heads")
        own = self._number("head_dim")
        self.head_dim = own or (self.width // self.heads if self.heads else 0)
        self.rope_dim = self._number("qk_rope_head_dim") or self.head_dim
        self.was = dict(self.settings)

    def _number(self, name: str) -> int:
        """A setting by transformers' name for it, 0 if there is none."""
        for own in (name, *(own for own, common in self.names.items() if common == name)):
            if found := _number(self.settings.get(own)):
                return found
        return 0

    def _each(self) -> Iterator[tuple[Settings, str, str]]:
        """Holder, name in it, and common name of each setting, those of single layers too."""
        layers = self.settings.get("per_layer_config")
        holders = [self.settings, *(layers.values() if isinstance(layers, dict) else ())]
        for holder in holders:
            for name in [*holder]:
                yield holder, name, self.names.get(name, name)

    def _change_heads(self, change: Callable[[int], int]) -> None:
        """Change all numbers of heads, in lists by layer too."""
        for holder, name, common in self._each():
            if _counts_heads(name) or _counts_heads(common):
                holder[name] = _changed(holder[name], change)

    def shrink_heads(self, base: int) -> None:
        """Few heads, in the order of how many there were, of few channels.

        Args:
            base: channels of a head of the language model; twice as many stay twice as many.
        """
        found: set[int] = set()

        def keep(value: int) -> int:
            found.add(value)
            return value

        self._change_heads(keep)
        several = sorted(value for value in found if value > 1)
        least = 2 if len(several) > 1 and 1 not in found else 4
        few = {value: least << i for i, value in enumerate(several)}
        self._change_heads(lambda value: few.get(value, value))
        ratio = _ratio(self.head_dim, base) if self.heads else 1
        self.new_width = few.get(self.heads, self.heads or 2) * HEAD_DIM * ratio
        for holder, name, common in self._each():
            value = holder[name]
            if _HEAD_DIM.search(name) and _is_number(value) and not _most(common):
                holder[name] = self._new_head_dim(holder, name, base)

    def _new_head_dim(self, holder: Settings, name: str, base: int) -> int:
        """Channels of a head, so that all heads stay as wide as the model, or twice as wide."""
        dim, rope = holder[name], "qk_rope_head_dim"
        turned, plain = (self._was(holder, own) for own in (rope, "qk_nope_head_dim"))
        if turned and dim in (turned, turned + plain):  # of latent attention
            return _most(rope) + (HEAD_DIM if dim > turned else 0)
        for heads, few in self._heads_of(name):
            times, rest = divmod(heads * dim, self.width or 1)
            new, odd = divmod(times * self.new_width, few)
            if 1 <= times <= 4 and not rest and not odd:
                return int(new)
        return HEAD_DIM * _ratio(dim, base)

    def _was(self, holder: Settings, name: str) -> int:
        """A number as it was before anything shrank, of a layer that may have its own."""
        own = holder.get(name) if holder is not self.settings else None
        return _number(own) or _number(self.was.get(name))

    def _heads_of(self, name: str) -> Iterator[tuple[int, int]]:
        """How many heads there were, and are, whose width a setting is, as their names tell."""
        mine = {*name.split("_")} - _HEAD_WORDS
        for other, heads in self.was.items():
            same = _counts_heads(other) and {*other.split("_")} - _HEAD_WORDS == mine
            if same and _is_number(heads) and heads:
                yield heads, self.settings[other]

    def _joined(self) -> dict[int, int]:
        """Widths of all heads of a kind together, new by old."""
        return {
            heads * dim: few * self.settings[name]
            for name, dim in self.was.items()
            if _HEAD_DIM.search(name) and _is_number(dim)
            for heads, few in self._heads_of(name)
        }

    def shrink_numbers(self, known: Mapping[int, int], words: int) -> None:
        """Scale widths down, and whatever has a name that tells how large it may be.

        Args:
            known: new widths by old ones, of all parts.
            words: of vocabularies.
        """
        known = {**known, **self._joined()}
        for holder, name, common in self._each():
            if _TOKEN.search(name):
                holder[name] = _changed(holder[name], lambda token: token if token < words else 0)
                continue
            most = words if _most(common) == WORDS else _most(common)
            if most:
                holder[name] = _changed(holder[name], partial(min, most))
            elif common in ("hidden_size", "d_model") and self.heads:
                holder[name] = self.new_width
            elif _WIDTH.search(name) and not _HEAD_DIM.search(name) and not _ROOM.search(name):
                holder[name] = _changed(holder[name], lambda value: self._new_width(value, known))

    def _new_width(self, width: int, known: Mapping[int, int]) -> int:
        """A width that is another's, or some times as much, stays so."""
        if width <= HEAD_DIM or width in known:
            return known.get(width, width)
        if self.width and width % self.width == 0 and width // self.width <= 4:
            return width // self.width * self.new_width
        return min(width, 2 * HEAD_DIM)

    def shrink_context(self, room: int) -> None:
        """Positions for the rows that are tried; an original context that those exceed."""
        ropes = _ropes(self.settings.get("rope_parameters"))
        known = next((o for o in map(_original, (*ropes, self.settings)) if o), None)
        dynamic = any(rope.get("rope_type") == "dynamic" for rope in ropes)
        for holder, name, common in self._each():
            if not _is_number(holder[name]):
                continue
            if common == "max_position_embeddings":
                ratio = max(1, round(holder[name] / known)) if known else 1
                holder[name] = CONTEXT * ratio if known or dynamic else room
            elif _ROOM.search(name):
                holder[name] = min(holder[name], room)
        for holder in (*ropes, self.settings):
            if _original(holder):
                holder["original_max_position_embeddings"] = CONTEXT
        for rope in ropes:
            for name in ("short_factor", "long_factor"):
                if isinstance(rope.get(name), list):
                    rope[name] = rope[name][: len(rope[name]) * self._new_rope() // self.rope_dim]
            if isinstance(rope.get("mrope_section"), list):
                rope["mrope_section"] = _scaled(
                    rope["mrope_section"], self._new_rope(), self.rope_dim
                )

    def _new_rope(self) -> int:
        return self._number("qk_rope_head_dim") or self._number("head_dim") or HEAD_DIM

    def shrink_layers(self) -> None:
        """Few layers, of each kind one."""
        if layer_count(self.settings, self.names):
            shrink_layers(self.settings, self.names)


def _counts_heads(name: str) -> bool:
    return bool(_HEADS.search(name)) and not _HEAD_DIM.search(name)


def _changed(value: Any, change: Callable[[int], int]) -> Any:
    if isinstance(value, list | tuple):
        return [_changed(each, change) for each in value]
    return change(value) if _is_number(value) else value


def _most(name: str) -> int:
    """How large a setting may be by its name, 0 if that does not say."""
    return next((most for pattern, most in _SMALLER if pattern.search(name)), 0)


def _ratio(dim: int, base: int) -> int:
    """How many times a head is as wide as the language model's, if some times."""
    times, rest = divmod(dim, base)
    return times if not rest and 1 <= times <= 4 else 1


def _original(holder: Settings) -> int | None:
    found = holder.get("original_max_position_embeddings")
    return int(found) if isinstance(found, int) and found else None


def _scaled(sections: list[int], new: int, old: int) -> list[int]:
    """Parts of a head's rotary channels, each at least one, whose sum is scaled as the head is."""
    small = [max(1, part * new // old) for part in sections]
    small[0] += sum(sections) * new // old - sum(small)
    return small
