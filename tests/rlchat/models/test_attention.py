"""Our attention against torch's, and on a real model against transformers'."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rlchat.models.attention import NAME, Mask, Scoring, attend, use_layouts
from rlchat.models.loading import load_base


def states(heads: int, tokens: int) -> Tensor:
    generator = torch.Generator().manual_seed(heads + tokens)
    return torch.randn(
        2, heads, tokens, 4, dtype=torch.double, generator=generator, requires_grad=True
    )


@pytest.mark.parametrize(("queries", "heads", "groups"), [(5, 6, 2), (1, 6, 3), (5, 2, 2)])
def test_values_and_gradients_are_those_of_torch(queries: int, heads: int, groups: int) -> None:
    query, key, value = states(heads, queries), states(groups, 7), states(groups, 7)
    seen = torch.arange(7) <= torch.arange(queries)[:, None] + 2
    expected = scaled_dot_product_attention(query, key, value, seen, enable_gqa=True)
    out = attend(query, key, value, Mask(~seen), Scoring(0.5))
    torch.testing.assert_close(out, expected)
    ours = torch.autograd.grad(out.square().sum(), (query, key, value))
    theirs = torch.autograd.grad(expected.square().sum(), (query, key, value))
    torch.testing.assert_close(ours, theirs)


def test_a_model_attends_as_before() -> None:
    model, _, _ = load_base("tiny", torch.float32)
    ids = torch.arange(80).reshape(2, 40)
    with torch.no_grad():
        before = model(input_ids=ids).logits
        use_layouts(model)
        after = model(input_ids=ids).logits
    assert model.config._attn_implementation == NAME
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
