"""Attention of a sentence: transformers' own weights, and one of them worked out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from rlchat.errors import UserError
from rlchat.evaluation.attribution.sentence import attend_to, draw, work_out
from rlchat.models.loading import load_base
from rlchat.models.policy import Policy

SENTENCE = "The lamp fell."


def test_a_decoders_weights_are_those_of_transformers() -> None:
    model, tokenizer, _ = load_base("tiny")
    model.set_attn_implementation("eager")
    ids = tokenizer(SENTENCE, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        layers = model(input_ids=ids, output_attentions=True).attentions
    for layer, number in ((0, 2), (1, 0)):
        head = attend_to("tiny", SENTENCE, layer, number)
        assert (head.kind, head.layer, head.head) == ("decoder", layer, number)
        torch.testing.assert_close(head.weights, layers[layer][0, number], atol=1e-5, rtol=1e-4)
        assert "".join(head.tokens) == SENTENCE


def test_an_encoders_weights_are_those_of_transformers(tiny_encoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    model = AutoModel.from_pretrained(tiny_encoder, attn_implementation="eager")
    tokens = tokenizer(SENTENCE, return_tensors="pt")
    with torch.no_grad():
        weights = model(**tokens, output_attentions=True).attentions[0][0]
    head = attend_to(str(tiny_encoder), SENTENCE, 0, 1)
    assert head.kind == "encoder"
    torch.testing.assert_close(head.weights, weights[1], atol=1e-5, rtol=1e-4)
    assert bool((head.weights[0, 1:] > 0).all())  # it sees what comes later


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_a_weight_is_worked_out(kind: str, tiny_encoder: Path) -> None:
    """softmax of q k / sqrt(d), by hand from queries and keys."""
    head = attend_to("tiny" if kind == "decoder" else str(tiny_encoder), SENTENCE, 0, 0)
    pair = work_out(head, 4, 2)
    seen = range(5) if kind == "decoder" else range(len(head.tokens))
    scores = [float(head.query[4] @ head.key[j]) / math.sqrt(head.query.shape[1]) for j in seen]
    assert pair.scaled == pytest.approx(scores[2], abs=1e-4)
    assert pair.product * head.scale == pytest.approx(pair.scaled)
    assert pair.total == pytest.approx(sum(math.exp(s) for s in scores), rel=1e-4)
    assert pair.weight == pytest.approx(float(head.weights[4, 2]), abs=1e-4)
    most = work_out(head)
    assert most.row == len(head.tokens) - 1
    assert most.weight == pytest.approx(float(head.weights[-1].max()), abs=1e-4)


def test_an_adapter_attends_with_its_own_weights(
    make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    make_policy().save(tmp_path / "adapter")
    head, base = (attend_to(name, SENTENCE, 1, 0) for name in (str(tmp_path / "adapter"), "tiny"))
    assert head.kind == "decoder" and not torch.allclose(head.weights, base.weights, atol=1e-3)


def test_the_head_that_looks_elsewhere_is_chosen() -> None:
    chosen = attend_to("tiny", SENTENCE)

    def elsewhere(layer: int, number: int) -> float:
        weights = attend_to("tiny", SENTENCE, layer, number).weights.clone()
        weights[:, 0] = 0
        weights.fill_diagonal_(0)
        return float(weights.amax(-1).sum())

    known = {(i, j): elsewhere(i, j) for i in range(2) for j in range(4)}
    assert known[chosen.layer, chosen.head] == max(known.values())
    assert attend_to("tiny", SENTENCE, -1, -1).layer == 1


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_it_is_drawn(tmp_path: Path, tiny_encoder: Path, ending: str) -> None:
    heads = [attend_to(name, "It costs $5 & <b>.") for name in ("tiny", str(tiny_encoder))]
    path = tmp_path / f"heads.{ending}"
    draw(heads, path)
    start = path.read_bytes()[:6]
    assert start in (b"\x89PNG\r\n", b"<?xml ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": 2}, r"expected --layer from 0 to 1; got 2"),
        ({"head": 4}, r"expected --head from 0 to 3; got 4"),
        ({"sentence": "x"}, r"expected a sentence of 2 to 64 tokens"),
        ({"sentence": "x" * 65}, r"got 65"),
        ({"model": "nobody"}, r"got 'nobody'"),
    ],
)
def test_what_cannot_be_shown_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        attend_to(**({"model": "tiny", "sentence": SENTENCE} | change))  # type: ignore[arg-type]


def test_later_tokens_and_other_files_are_refused(tmp_path: Path) -> None:
    head = attend_to("tiny", SENTENCE)
    with pytest.raises(UserError, match="does not see the later token 3"):
        work_out(head, 1, 3)
    with pytest.raises(UserError, match=r"expected a file ending in \.png"):
        draw([head], tmp_path / "heads.txt")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    with pytest.raises(UserError, match=r"expected .* to be an encoder or a causal language model"):
        attend_to(str(tmp_path), SENTENCE)
