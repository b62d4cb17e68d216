"""Attention of some tokens of a row: kept while a forward goes by, or as the model itself tells."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlchat.models.attention import Mask, Scoring, attention_weights
from rlchat.models.packing import Packing


@dataclass
class AttentionShares:
    """What some tokens attend to: the mean over layers of what A tokens see in S places, (A, S).

    Attributes:
        places: (A,) of the tokens that are asked about, in their packing.
        weights: attention weights, the mean over heads.
        contributions: each head's weights times the length of the value that they take (Kobayashi
            et al. 2020), as shares of their sum. The first token, on which most models put the
            weight that is to do nothing, has a short value.
        layers: how many have gone by.
    """

    places: Tensor
    weights: Tensor | float = 0.0
    contributions: Tensor | float = 0.0
    layers: int = 0

    def add(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask, scoring: Scoring) -> None:
        """Take a layer into account; no more than its queries' weights are held at a time.

        Args:
            query: (H, A, D), of the tokens that are asked about.
            key: (G, S, D).
            value: (G, S, E).
            mask: who does not see whom.
            scoring: what becomes of the products.
        """
        weights = attention_weights(query, key, mask, scoring).float()
        weights = weights.view(*query.shape[:2], -1)
        lengths = value.float().norm(dim=-1).repeat_interleave(len(query) // len(value), 0)
        taken = (weights * lengths[:, None]).sum(0)
        self.weights = self.weights + weights.mean(0)
        self.contributions = self.contributions + taken / taken.sum(-1, keepdim=True)
        self.layers += 1

    def mean(self) -> tuple[Tensor, Tensor]:
        """Weights and contributions (S,), the means over tokens and layers."""
        assert isinstance(self.weights, Tensor) and isinstance(self.contributions, Tensor)
        return self.weights.mean(0) / self.layers, self.contributions.mean(0) / self.layers


@dataclass(frozen=True)
class WatchedPacking(Packing):
    """A packing of one row, whose attention is kept in ``shares``."""

    shares: AttentionShares = field(default_factory=lambda: AttentionShares(torch.zeros(0)))

    @property
    def first(self) -> int:
        """Where the row's first token is seen, behind what comes before every row."""
        return self.before + self.virtual

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> Tensor:
        """Attend as a `Layout`, and keep what the tokens asked about attend to."""
        at, tokens = self.shares.places, self.shared + self.own[0]
        keys, values = key[:, :tokens], value[:, :tokens]
        if self.prefix_kv is not None:
            keys, values = (
                torch.cat([before, x], dim=1)
                for before, x in zip(self.prefix_kv[layer], (keys, values), strict=True)
            )
        mask = _mask(at + keys.shape[1] - tokens, keys, scoring.window)
        self.shares.add(query[:, at], keys, values, mask, scoring)
        return super().attend(layer, query, key, value, scoring)

    def attend_at(
        self, at: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float
    ) -> Tensor:
        """Attend from the tokens asked about alone, and keep what they attend to."""
        tokens = self.shared + self.own[0]
        keys, values = key[:, :tokens], value[:, :tokens]
        self.shares.add(query, keys, values, _mask(at, keys, None), Scoring(scale))
        return super().attend_at(at, query, key, value, scale)


def told_attention(model: PreTrainedModel, ids: Tensor, at: Tensor) -> Tensor | None:
    """What some tokens attend to, as a model that is run row by row tells of itself.

    Args:
        model: with transformers' plain attention.
        ids: (T,), a row.
        at: (A,), places of the tokens.

    Returns:
        The weights (T,), the mean over tokens, heads and layers that attend; None if no layer does.
    """
    told = model(input_ids=ids[None], output_attentions=True, use_cache=False)
    layers = getattr(told, "attentions", None) or ()
    found = [w[0, :, at, -len(ids) :].float().mean((0, 1)) for w in layers if _attends(w, ids)]
    return torch.stack(found).mean(0) if found else None


def _attends(weights: Tensor | None, ids: Tensor) -> bool:
    """Whether they are shares of all places: some models tell states of linear layers there."""
    if weights is None or weights.dim() != 4 or weights.shape[2] != len(ids):
        return False
    sums = weights.float().sum(-1)
    return bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-2))


def _mask(at: Tensor, key: Tensor, window: int | None) -> Mask:
    """Hide from each place what follows it, and what left its window."""
    places = torch.arange(key.shape[1], device=at.device)
    hidden = places > at[:, None]
    if window is not None:
        hidden |= places <= at[:, None] - window
    return Mask(hidden)
