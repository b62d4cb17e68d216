"""Whether a model computes here what it computes in transformers; refused in a sentence if not.

Training runs many rows as one sequence, and sampling runs each row in pieces over kept keys and
values. Both are exact only if nothing but attention mixes tokens, and attention does as a `Layout`
says. That is a fact of the architecture: it is tried on a tiny copy in float32, where no rounding
hides an error, and kept beside the models, so that each kind is tried once.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from rlchat.errors import UserError
from rlchat.files import write_json
from rlchat.models.attention import (
    Layout,
    Scoring,
    attend,
    layers_of,
    text_config,
    trunk_and_head,
    unseen,
    use_layouts,
)
from rlchat.models.exact.row_limit import row_limit
from rlchat.models.exact.tiny_copy import tiny_copy
from rlchat.models.exact.tiny_settings import WORDS
from rlchat.models.fetching.catalog import cache_dir, first_line
from rlchat.models.packing import Packing

TRIAL = 2  # counts up when another thing is tried, so that kept verdicts are not believed
LENGTHS = (40, 23, 9)  # tokens of the rows that are tried
SHARED = 5  # tokens that they begin with
TURNS = (7, 8, 20)  # tokens after which a row goes on over kept keys and values
CLOSE = 2e-5  # relative error of logprobs that float32 explains
CLOSE_SLOPES = 1e-3  # the same of gradients, whose sums are longer


def check_model(model: PreTrainedModel) -> None:
    """Let a model attend by layouts, if training and sampling are exact then.

    Raises:
        UserError: they are not.
    """
    reason = _kept_verdict(model)
    try:
        reason = reason or _differs_here(model)
    except Exception as error:  # of any model code
        reason = _said(error)
    if reason:
        raise UserError(
            "expected a model whose rows attend through transformers' attention interface, and "
            "nothing else in it mixing tokens, so that its logprobs here are transformers' own; "
            f"got {type(model).__name__}: {reason}; choose another model"
        )


def _kept_verdict(model: PreTrainedModel) -> str:
    """What is wrong with models of this kind, "" if nothing, tried here unless it is known."""
    kept, kind = cache_dir() / "compatibility.json", _kind(type(model).__name__, model.config)
    known = _known(kind)
    if known is None:
        known = _try(model)
        _TRIED[kind] = known
        with contextlib.suppress(OSError, UserError):  # then it is tried again
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, {**_read(), kind: known})
    return known


_TRIED: dict[str, str] = {}  # verdicts of this process, should the folder not be writable


def _known(kind: str) -> str | None:
    return _TRIED[kind] if kind in _TRIED else _read().get(kind)


def _read() -> dict[str, str]:
    """Read what was tried before; what is no text is left out."""
    try:
        kept = json.loads((cache_dir() / "compatibility.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    verdicts = kept.items() if isinstance(kept, dict) else ()
    return {kind: verdict for kind, verdict in verdicts if isinstance(verdict, str)}


def _kind(name: str, config: PreTrainedConfig) -> str:
    """Name an architecture: class, settings, and the versions of who computes."""
    settings = config.to_dict()
    for aside in ("_name_or_path", "dtype", "transformers_version"):
        settings.pop(aside, None)
    text = json.dumps(settings, sort_keys=True, default=str)
    made = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{name} {made} transformers {transformers.__version__} trial {TRIAL}"


def _try(model: PreTrainedModel) -> str:
    """Try a tiny copy of a model, or, if there can be none, a whole one; "" if all is well."""
    tiny: PreTrainedModel | None
    try:
        tiny = tiny_copy(model)
        tiny(input_ids=torch.arange(4)[None], use_cache=False)
    except Exception:  # of any model code: then it is the model itself that is tried
        tiny = None
    try:
        if tiny is None:
            return differs(copy.deepcopy(model).cpu().float(), gradients=False)
        return differs(tiny)
    except Exception as error:  # of any model code
        return _said(error)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"[:160]


def _rows(words: int, limit: int | None) -> list[Tensor]:
    """Rows of unequal lengths that begin alike, as long as they may be."""
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(4, words, (len(LENGTHS), max(LENGTHS)), generator=generator)
    ids[:, :SHARED] = ids[0, :SHARED]
    return [row[: min(n, limit or n)] for row, n in zip(ids, LENGTHS, strict=True)]


def differs(model: PreTrainedModel, gradients: bool = True) -> str:
    """Say where a model in float32 departs from itself when it attends by layouts.

    Args:
        model: is left attending by layouts.
        gradients: whether those are compared too.

    Returns:
        A reason, or "".
    """
    rows = _rows(min(WORDS, text_config(model).vocab_size), row_limit(model))
    model.set_attn_implementation("eager")
    with torch.set_grad_enabled(gradients):
        alone = [_logprobs(model(input_ids=row[None], use_cache=False).logits[0]) for row in rows]
        expected = _slopes(model, alone) if gradients else []
        use_layouts(model)
        packed = [_logprobs(logits) for logits in _packed(model, rows)]
        slopes = _slopes(model, packed) if gradients else []
    with torch.no_grad():
        in_turns = _in_turns(model, rows[0])
    off = {
        "logprobs of packed rows": max(map(_off, packed, alone)),
        "logprobs over kept keys and values": _off(in_turns, alone[0]),
    }
    for way, error in off.items():
        if not error <= CLOSE:
            return f"its {way} are off by {error:.1g}"
    return _slopes_differ(slopes, expected)


def _slopes_differ(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> str:
    """Compare gradients, each by its own size, of which a thousandth of all is the least."""
    least = 1e-3 * float(torch.stack([x.norm() for x in theirs]).norm()) if theirs else 0.0
    for a, b in zip(ours, theirs, strict=True):
        error = float((a - b).norm()) / (float(b.norm()) + least)
        if not error <= CLOSE_SLOPES:
            return f"its gradients through packed rows are off by {error:.1g}"
    return ""


def _logprobs(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1)


def _off(ours: Tensor, theirs: Tensor) -> float:
    """Relative error; infinite where either is no number."""
    error = float((ours - theirs).detach().norm() / theirs.detach().norm())
    return error if math.isfinite(error) else math.inf


def _slopes(model: PreTrainedModel, rows: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of all weights, of logprobs that weigh differently in each row."""
    total = torch.stack([(i + 1) * row.sin().mean() for i, row in enumerate(rows)]).sum()
    weights = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(total, weights, allow_unused=True)
    return [torch.zeros(1) if g is None else g for g in grads]


def _run(model: PreTrainedModel, ids: Tensor, positions: Tensor, layout: Layout) -> Tensor:
    """Logits (N, V) after N tokens that a layout lays out, float32."""
    trunk, head = trunk_and_head(model)
    out = trunk(input_ids=ids[None], position_ids=positions[None], use_cache=False, layout=layout)
    logits: Tensor = head(out.last_hidden_state[0])
    return logits.float()


def _packed(model: PreTrainedModel, rows: Sequence[Tensor]) -> list[Tensor]:
    """Logits of rows that lie in one sequence, in all of whose layers they must attend."""
    packing = Packing.of(rows)
    counted = _Counted(packing)
    laid = _run(model, packing.ids, packing.positions, counted)
    layers = len(layers_of(model))
    if sorted(counted.layers) != list(range(layers)):
        few = len(set(counted.layers))
        if few == layers:
            raise NotImplementedError("its layers attend several times each")
        raise NotImplementedError(f"{few} of {layers} layers attend through the interface")
    return [packing.row(laid, i) for i in range(len(rows))]


def _in_turns(model: PreTrainedModel, row: Tensor) -> Tensor:
    """Logprobs (T, V) of a row in pieces: a prompt, single tokens, a next turn."""
    kept, places = _Kept(), torch.arange(len(row), device=row.device)
    ends = [min(end, len(row)) for end in (*TURNS, len(row))]
    pieces = [
        _run(model, row[begin:end], places[begin:end], kept)
        for begin, end in zip([0, *ends], ends, strict=False)
        if begin < end
    ]
    return _logprobs(torch.cat(pieces))


@dataclass
class _Counted:
    """A layout that notes which layers attend."""

    layout: Layout
    layers: list[int] = field(default_factory=list)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> Tensor:
        """Attend as the layout does."""
        self.layers.append(layer)
        return self.layout.attend(layer, query, key, value, scoring)


class _Kept:
    """The layout of a row that comes in pieces: keys and values are kept, as a decoder does."""

    def __init__(self) -> None:
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> Tensor:
        """Append, and let the new tokens see the row up to themselves."""
        if layer in self._pairs:
            old = self._pairs[layer]
            key, value = torch.cat([old[0], key], 1), torch.cat([old[1], value], 1)
        self._pairs[layer] = key, value
        mask = unseen(query.shape[1], key.shape[1], scoring.window, key.device)
        return attend(query, key, value, mask, scoring).transpose(0, 1).contiguous()


@torch.inference_mode()
def _differs_here(model: PreTrainedModel) -> str:
    """Say how the real weights' packed forward departs from their rows alone, roughly.

    Whole models are loaded in half precision, where an error of a tenth is not told from rounding:
    the tiny copy has settled what is exact.
    """
    # Ordinary words, from the middle of the vocabulary: on marks that a model never saw side by
    # side, half precision alone moves its logits by as much as a row's neighbours would.
    word = text_config(model).vocab_size // 2
    rows = [torch.arange(word, word + 8), torch.arange(word + 5, word, -1)]
    rows = [row.to(model.device) for row in rows]
    alone = [model(input_ids=row[None], use_cache=False).logits[0].float() for row in rows]
    use_layouts(model)
    off = max(map(_off, _packed(model, rows), alone))
    limit = 1e-3 if model.dtype == torch.float32 else 1e-1
    return "" if off <= limit else f"its packed rows are off by {off:.1g}"
