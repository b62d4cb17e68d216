"""Whether a model computes here what it computes in transformers; refused in a sentence if not.

Training runs many rows as one sequence, and sampling runs each row in pieces over kept keys and
values. Both are exact only if nothing but attention mixes tokens, and attention does as a `Layout`
says. Other causal models are run by rows, in transformers' own forward. That is a fact of the
architecture: it is tried on a tiny copy in float32, where no rounding hides an error, and kept
beside the models, so that each kind is tried once.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

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
from rlchat.models.by_rows.way import ByRows, Turns, take_by_rows
from rlchat.models.exact.comparing import (
    CLOSE,
    error_of,
    logprobs,
    logprobs_alone,
    slopes,
    slopes_differ,
    trial_rows,
)
from rlchat.models.exact.rows_trial import rows_differ_here, try_by_rows
from rlchat.models.exact.tiny_copy import tiny_copy
from rlchat.models.fetching.catalog import Say, cache_dir, first_line
from rlchat.models.packing import Packing

TRIAL = 3  # counts up when another thing is tried, so that kept verdicts are not believed
TURNS = (7, 8, 20)  # tokens after which a row goes on over kept keys and values


@dataclass(frozen=True)
class Verdict:
    """What came of trying a kind of model.

    Attributes:
        reason: Why it is refused; empty if it is not.
        rows: How it is run by rows; None if it is run in packings.
    """

    reason: str = ""
    rows: ByRows | None = None


def check_model(model: PreTrainedModel, say: Say = lambda line: None) -> None:
    """Let a model attend by layouts, or be run by rows, if training and sampling are exact then.

    Args:
        model: is left ready for either.
        say: told, once, that it is run by rows.

    Raises:
        UserError: they are not.
    """
    with _without_warnings():
        verdict = _kept_verdict(model)
        try:
            reason = verdict.reason or _differs_here(model, verdict.rows)
        except Exception as error:  # of any model code
            reason = _said(error)
    if reason:
        raise UserError(
            "expected a model that is computed here as in transformers, packed or row by row; got "
            f"{type(model).__name__}: {reason}; choose another model"
        )
    name = type(model).__name__
    if verdict.rows is not None and name not in _TOLD:
        _TOLD.add(name)
        say(
            f"{name} is trained and sampled row by row in transformers' own forward: exact, but "
            "slower than models whose rows are packed"
        )


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep transformers from warning of kernels that are not installed, which it does once."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


_TOLD: set[str] = set()  # classes of models that were spoken of in this process
_TRIED: dict[str, Verdict] = {}  # verdicts of this process, should the folder not be writable


def _kept_verdict(model: PreTrainedModel) -> Verdict:
    """What came of models of this kind, tried here unless it is known."""
    kept, kind = cache_dir() / "compatibility.json", _kind(type(model).__name__, model.config)
    known = _TRIED.get(kind) or _verdict(_read().get(kind))
    if known is None:
        known = _try(model)
        _TRIED[kind] = known
        with contextlib.suppress(OSError, UserError):  # then it is tried again
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, {**_read(), kind: asdict(known)})
    return known


def _read() -> dict[str, Any]:
    """Read what was tried before, by whatever version."""
    try:
        kept = json.loads((cache_dir() / "compatibility.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _verdict(kept: object) -> Verdict | None:
    """What was written down of a verdict; None if that is none."""
    try:
        assert isinstance(kept, dict) and isinstance(kept["reason"], str)
        rows = None if kept["rows"] is None else ByRows(**kept["rows"])
        assert rows is None or rows.turns in get_args(Turns)
    except (AssertionError, KeyError, TypeError):
        return None
    return Verdict(kept["reason"], rows)


def _kind(name: str, config: PreTrainedConfig) -> str:
    """Name an architecture: class, settings, and the versions of who computes."""
    settings = config.to_dict()
    for aside in ("_name_or_path", "dtype", "transformers_version"):
        settings.pop(aside, None)
    text = json.dumps(settings, sort_keys=True, default=str)
    made = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{name} {made} transformers {transformers.__version__} trial {TRIAL}"


def _try(model: PreTrainedModel) -> Verdict:
    """Try a tiny copy of a model, or, if there can be none, a whole one: packed, then by rows."""
    tried, tiny = _to_try(model)
    try:
        if not differs(tried, gradients=tiny):
            return Verdict()
    except Exception:  # of any model code: then rows may do
        pass
    try:
        tried, tiny = _to_try(model)
        found = try_by_rows(tried, gradients=tiny)
    except Exception as error:  # of any model code
        found = _said(error)
    return Verdict(found) if isinstance(found, str) else Verdict(rows=found)


def _to_try(model: PreTrainedModel) -> tuple[PreTrainedModel, bool]:
    """A model in float32 that can be tried, and whether it is a tiny copy."""
    try:
        tiny = tiny_copy(model)
        tiny(input_ids=torch.arange(4)[None], use_cache=False)
    except Exception:  # of any model code: then it is the model itself that is tried
        return copy.deepcopy(model).cpu().float(), False
    return tiny, True


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"[:160]


def differs(model: PreTrainedModel, gradients: bool = True) -> str:
    """Say where a model in float32 departs from itself when it attends by layouts.

    Args:
        model: is left attending by layouts.
        gradients: whether those are compared too.

    Returns:
        A reason, or "".
    """
    rows = trial_rows(model)
    model.set_attn_implementation("eager")
    with torch.set_grad_enabled(gradients):
        alone = logprobs_alone(model, rows)
        expected = slopes(model, alone) if gradients else []
        use_layouts(model)
        packed = [logprobs(logits) for logits in _packed(model, rows)]
        ours = slopes(model, packed) if gradients else []
    with torch.no_grad():
        in_turns = _in_turns(model, rows[0])
    off = {
        "logprobs of packed rows": max(map(error_of, packed, alone)),
        "logprobs over kept keys and values": error_of(in_turns, alone[0]),
    }
    for way, error in off.items():
        if not error <= CLOSE:
            return f"its {way} are off by {error:.1g}"
    return slopes_differ(ours, expected, "packed rows")


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
    return logprobs(torch.cat(pieces))


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
def _differs_here(model: PreTrainedModel, way: ByRows | None) -> str:
    """Say how the real weights' rows depart from their rows alone, roughly.

    Whole models are loaded in half precision, where an error of a tenth is not told from rounding:
    the tiny copy has settled what is exact.
    """
    # Ordinary words, from the middle of the vocabulary: on marks that a model never saw side by
    # side, half precision alone moves its logits by as much as a row's neighbours would.
    word = text_config(model).vocab_size // 2
    rows = [torch.arange(word, word + 8), torch.arange(word + 5, word, -1)]
    rows = [row.to(model.device) for row in rows]
    if way is not None:
        take_by_rows(model, way)
        return rows_differ_here(model, way, rows)
    alone = [model(input_ids=row[None], use_cache=False).logits[0].float() for row in rows]
    use_layouts(model)
    off = max(map(error_of, _packed(model, rows), alone))
    limit = 1e-3 if model.dtype == torch.float32 else 1e-1
    return "" if off <= limit else f"its packed rows are off by {off:.1g}"
