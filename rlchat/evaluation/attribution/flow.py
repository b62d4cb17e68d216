"""Attention of one row, kept while the policy's own forward goes by."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlchat.models.attention import Mask, Scoring, attention_weights
from rlchat.models.packing import Packing


@dataclass
class AttentionFlow:
    """What some tokens of a row attend to, summed up layer by layer.

    It holds two squares of numbers, of the row's length, whatever the number of layers and heads.

    Attributes:
        places: of the tokens that are asked about, among the row's and those before it.
        shares: (A, S), weights summed over layers, each the mean over its heads.
        rolled: (Q, S), attention rollout (Abnar and Zuidema 2020): the product over layers of half
            the weights and half the identity, which stands for the residual stream.
        layers: how many have gone by.
    """

    places: Tensor
    shares: Tensor | None = None
    rolled: Tensor | None = None
    layers: int = 0

    @property
    def direct(self) -> Tensor:
        """The mean attention of the tokens that are asked about, over layers and heads: (S,)."""
        assert self.shares is not None
        return (self.shares / self.layers).mean(0)

    @property
    def through_layers(self) -> Tensor:
        """Attention rollout of the tokens that are asked about: (S,)."""
        assert self.rolled is not None
        rolled = self.rolled if len(self.rolled) == len(self.places) else self.rolled[self.places]
        return rolled.mean(0)

    def add(self, weights: Tensor, at: Tensor | None = None) -> None:
        """Take a layer's weights (Q, S) into account, or those of the tokens asked about (A, S).

        Args:
            weights: the mean over heads.
            at: the places of its queries, if they are not all of the row's.
        """
        seen = weights.shape[1]
        if self.rolled is None:
            self.rolled = torch.eye(seen, device=weights.device)[seen - len(weights) :]
        before = torch.eye(seen, device=weights.device)[: seen - len(self.rolled)]
        own = self.rolled if at is None else self.rolled[at]
        self.rolled = 0.5 * (weights @ torch.cat([before, self.rolled])) + 0.5 * own
        asked = weights if at is not None else weights[self.places]
        self.shares = asked if self.shares is None else self.shares + asked
        self.layers += 1


@dataclass(frozen=True)
class WatchedPacking(Packing):
    """A packing of one row, whose attention is kept in ``flow``."""

    flow: AttentionFlow = field(default_factory=lambda: AttentionFlow(torch.zeros(0).long()))

    @property
    def first(self) -> int:
        """Where the row's first token is seen, behind what comes before every row."""
        return self.before + self.virtual

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> Tensor:
        """Attend as a `Layout`, and keep the weights."""
        tokens, seen = self.shared + self.own[0], key[:, : self.shared + self.own[0]]
        if self.prefix_kv is not None:
            seen = torch.cat([self.prefix_kv[layer][0], seen], dim=1)
        mask = self._mask(tokens, seen.shape[1], scoring.window)
        self.flow.add(_mean_weights(query[:, :tokens], seen, mask, scoring))
        return super().attend(layer, query, key, value, scoring)

    def attend_at(
        self, at: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float
    ) -> Tensor:
        """Attend from some tokens alone, and keep the weights."""
        tokens = self.shared + self.own[0]
        mask = Mask(torch.arange(tokens, device=at.device) > at[:, None])
        weights = _mean_weights(query, key[:, :tokens], mask, Scoring(scale))
        self.flow.add(weights, at)
        return super().attend_at(at, query, key, value, scale)


def _mean_weights(query: Tensor, key: Tensor, mask: Mask, scoring: Scoring) -> Tensor:
    """Weights (Q, S), the mean over heads, of which a group at a time is held."""
    heads, groups = len(query), len(key)
    each = heads // groups
    total = torch.zeros(query.shape[1], key.shape[1], device=query.device)
    for group in range(groups):
        own = slice(group * each, (group + 1) * each)
        sinks = None if scoring.sinks is None else scoring.sinks[own]
        one = scoring._replace(sinks=sinks)
        weights = attention_weights(query[own], key[group : group + 1], mask, one)
        total += weights.view(each, *total.shape).float().sum(0)
    return total / heads
