"""Attention of one sentence in one head of an encoder or a decoder, with all its numbers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel, PreTrainedTokenizerBase

from rlchat.algorithms.ppo import wide
from rlchat.errors import UserError
from rlchat.files import write_bytes
from rlchat.models.adapter_io import adapter_folder, base_spec
from rlchat.models.attention import Scoring, attention_weights, unseen
from rlchat.models.config import AdapterConfig
from rlchat.models.fetching.catalog import Say, first_line, no_progress_bars, resolve
from rlchat.models.loading import load_base
from rlchat.models.policy import Policy
from rlchat.models.sentence_encoder import MINILM, minilm_folder

NAME = "rlchat_recorded"
MOST_TOKENS = 64
FORMULA = r"$\mathrm{softmax}\left(\frac{QK^\top}{\sqrt{d}}\right)V$"
FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Head:
    """What one attention head makes of T tokens.

    Attributes:
        model: its name.
        tokens: their texts.
        causal: whether a token sees itself and those before it alone (decoder), or all (encoder).
        layer: number of the layer, from 0.
        head: number of the head, from 0.
        query: (T, d), as they are compared: positions are turned into them, where a model does so.
        key: (T, d), alike.
        scale: factor of the products, 1 / sqrt(d) in nearly all models.
        weights: (T, T), rows are tokens that attend.
        plain: whether they are the formula's; some models also bound the scaled products (Gemma 2),
            or let weight go to no token at all (gpt-oss).
    """

    model: str
    tokens: list[str]
    causal: bool
    layer: int
    head: int
    query: Tensor
    key: Tensor
    scale: float
    weights: Tensor
    plain: bool

    @property
    def kind(self) -> str:
        """Encoder or decoder."""
        return "decoder" if self.causal else "encoder"


@dataclass(frozen=True)
class WorkedPair:
    """One weight of a head, worked out by the formula: how much a token attends to another.

    Attributes:
        row: of the query.
        column: of the key.
        product: of query and key.
        scaled: the same times the head's scale.
        total: sum of exp(scaled) over all keys that the query sees.
        weight: exp(scaled) / total.
    """

    row: int
    column: int
    product: float
    scaled: float
    total: float
    weight: float


@dataclass(frozen=True)
class _Layer:
    """Queries (H, T, d), keys (H, T, d) and weights (H, T, T) of a layer."""

    query: Tensor
    key: Tensor
    weights: Tensor
    scale: float
    causal: bool
    plain: bool


def attend_to(
    model: str,
    sentence: str,
    layer: int | None = None,
    head: int | None = None,
    say: Say = lambda line: None,
) -> Head:
    """Run a sentence through a model, and keep what one of its heads does.

    Args:
        model: a model of `rlchat models list`, ``minilm-l6``, a folder, a hub id or a run.
        sentence: is read as it is, without a chat template.
        layer: from 0; below 0 counts from the top. None takes the one of the head that looks most
            surely at a token other than itself and the first.
        head: from 0; None takes the one that does so in the layer.
        say: told what takes long.

    Raises:
        UserError: no such model, layer or head, or a sentence too long to draw.
    """
    loaded, tokenizer = _load(model, say)
    ids: list[int] = list(tokenizer(sentence)["input_ids"])
    if not 2 <= len(ids) <= MOST_TOKENS:
        raise UserError(
            f"expected a sentence of 2 to {MOST_TOKENS} tokens, which can be drawn; got "
            f"{len(ids)}; give another"
        )
    layers = _record(loaded, torch.tensor([ids], device=loaded.device))
    number = _number("layer", layer, len(layers))
    if number is None:
        own = [_elsewhere(one.weights) for one in layers]
        number = max(range(len(layers)), key=lambda i: float(own[i].max()))
    found = layers[number]
    chosen = _number("head", head, len(found.weights))
    if chosen is None:
        chosen = int(_elsewhere(found.weights).argmax())
    return Head(
        model,
        [str(tokenizer.decode([i])) for i in ids],
        found.causal,
        number,
        chosen,
        found.query[chosen],
        found.key[chosen],
        found.scale,
        found.weights[chosen],
        found.plain,
    )


def work_out(head: Head, row: int | None = None, column: int | None = None) -> WorkedPair:
    """Work out one weight of a head.

    Args:
        head: whose.
        row: of the token that attends; None for the last.
        column: of the token that it attends to; None for the one that it attends to most.

    Raises:
        UserError: there is no such token, or it is not seen.
    """
    chosen = _number("from", row, len(head.tokens))
    i = len(head.tokens) - 1 if chosen is None else chosen
    chosen = _number("to", column, len(head.tokens))
    j = int(head.weights[i].argmax()) if chosen is None else chosen
    if head.causal and j > i:
        raise UserError(
            f"expected a token that token {i} sees; in a decoder it does not see the later token "
            f"{j}; name one from 0 to {i} with --to"
        )
    products = wide(head.query[i]) @ wide(head.key).T
    scaled = products * head.scale
    total = float(scaled[head.weights[i] > 0].exp().sum())  # the others are not seen
    exact = float(scaled[j].exp()) / total
    return WorkedPair(i, j, float(products[j]), float(scaled[j]), total, exact)


def draw(heads: list[Head], path: Path) -> None:
    """Draw heads side by side into a file, each with its formula and one worked weight.

    Raises:
        UserError: a file of another kind than `FORMATS`.
    """
    from matplotlib.figure import Figure

    if path.suffix.lower() not in FORMATS:
        raise UserError(f"expected a file ending in {', '.join(FORMATS)}; got {path}; name another")
    most = max(len(head.tokens) for head in heads)
    side = max(4.0, 0.28 * most + 1.5)
    figure = Figure(figsize=(side * len(heads), side + 1.2), layout="constrained")
    above, below = figure.subplots(2, len(heads), squeeze=False, height_ratios=(side, 1.0))
    for axes, words, head in zip(above, below, heads, strict=True):
        _draw_head(axes, words, head)
    drawing = io.BytesIO()
    figure.savefig(drawing, format=path.suffix[1:].lower(), dpi=150, bbox_inches="tight")
    write_bytes(path, drawing.getvalue())


def _draw_head(axes: Any, words: Any, head: Head) -> None:
    """Draw the weights, and what is to be read below them."""
    pair, places = work_out(head), range(len(head.tokens))
    labels = [token.strip() or repr(token)[1:-1] for token in head.tokens]
    axes.imshow(head.weights, cmap="Blues", vmin=0, vmax=float(head.weights.max()))
    axes.set_xticks(places, labels, rotation=90, parse_math=False)
    axes.set_yticks(places, labels, parse_math=False)
    axes.set_xlabel("attended to (keys)")
    axes.set_ylabel("attends (queries)")
    axes.add_patch(_square(pair))
    title = f"{head.kind} {head.model}: layer {head.layer}, head {head.head}"
    axes.set_title(title, parse_math=False, fontsize=10)
    worked = (
        f"{FORMULA}\nthe marked weight:\n$q\\cdot k$ = {pair.product:.2f}, times "
        f"{head.scale:.4g} = {pair.scaled:.2f}\n$e^{{{pair.scaled:.2f}}}$ / {pair.total:.4g} = "
        f"{pair.weight:.3f}"
    )
    words.axis("off")
    words.text(0.5, 1.0, worked, transform=words.transAxes, ha="center", va="top", fontsize=9)


def _square(pair: WorkedPair) -> Any:
    from matplotlib.patches import Rectangle

    corner = pair.column - 0.5, pair.row - 0.5
    return Rectangle(corner, 1, 1, fill=False, edgecolor="#e6550d", linewidth=1.5)


def _number(name: str, given: int | None, count: int) -> int | None:
    """A number from 0, of which those below 0 count from the end."""
    if given is None:
        return None
    if not -count <= given < count:
        raise UserError(f"expected --{name} from 0 to {count - 1}; got {given}; name another")
    return given % count


def _elsewhere(weights: Tensor) -> Tensor:
    """How surely each head (H, T, T) looks at another token than itself and the first: (H,).

    The mean of the largest weight there: a head that looks everywhere alike shows nothing.
    """
    others = weights.clone()
    others[..., 0] = 0
    others.diagonal(dim1=-2, dim2=-1).zero_()
    return others.amax(-1).mean(-1)


@torch.no_grad()
def _record(model: PreTrainedModel, ids: Tensor) -> list[_Layer]:
    """Run token ids (1, T), and keep what each layer's attention is given and makes."""
    layers: list[_Layer] = []

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        heads, tokens, dim = query.shape[1:]
        scale = dim**-0.5 if scaling is None else scaling
        causal = bool(getattr(module, "is_causal", True))
        window = kwargs.get("sliding_window") if causal else None
        scoring = Scoring(scale, window, kwargs.get("softcap"), kwargs.get("s_aux"))
        mask = unseen(tokens, tokens, window, query.device) if causal else None
        weights = attention_weights(query[0], key[0], mask, scoring).view(heads, tokens, tokens)
        keys, values = (x[0].repeat_interleave(heads // x.shape[1], 0) for x in (key, value))
        plain = scoring.cap is None and scoring.sinks is None
        own, theirs, shares = (x.float().cpu() for x in (query[0], keys, weights))
        layers.append(_Layer(own, theirs, shares, scale, causal, plain))
        return (weights @ values).transpose(0, 1)[None].contiguous(), None

    AttentionInterface.register(NAME, attention)
    model.set_attn_implementation(NAME)
    model(input_ids=ids)
    return layers


def _load(name: str, say: Say) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder, a decoder, or a decoder with an adapter merged into it."""
    adapter = adapter_folder(name)
    if adapter is not None:
        policy = Policy.create(base_spec(adapter), AdapterConfig(), adapter, say=say)
        return policy.generation_model().model, policy.template.tokenizer
    folder = minilm_folder(say) if name == MINILM.name else resolve(name, say)
    if isinstance(folder, Path) and not _is_causal(folder):
        return _load_encoder(folder)
    model, tokenizer, _ = load_base(name, say=say)
    return model, tokenizer


def _is_causal(folder: Path) -> bool:
    """Whether a folder has a causal language model, as far as its configuration says."""
    from transformers import AutoConfig

    try:
        named = AutoConfig.from_pretrained(folder, trust_remote_code=False).architectures or []
    except (OSError, ValueError, KeyError):
        return True  # loading it as one tells what is wrong
    return not named or any("CausalLM" in one or "LMHead" in one for one in named)


def _load_encoder(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    no_progress_bars()
    try:
        model: Any = AutoModel.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise _no_encoder(folder, first_line(error)) from error
    if getattr(model.config, "is_encoder_decoder", False):
        raise _no_encoder(folder, "a model of both")
    return model.eval(), tokenizer


def _no_encoder(folder: Path, got: str) -> UserError:
    return UserError(
        f"expected {folder} to be an encoder or a causal language model with config.json, a "
        f"tokenizer and safetensors weights; got: {got}; name another with --model"
    )
