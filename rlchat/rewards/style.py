"""A person's preferred style as a score in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlchat.distributed import Distributed
from rlchat.feedback.style_profile import known_person
from rlchat_envs import Conversation
from rlchat_reward_models.scorer import turns_of
from rlchat_reward_models.style_features import Array, style_features


class StyleReward:
    """A score from a person's preference weights, as they were when the run began.

    A reply scores log σ(w·(φ − φ̄)), the log-probability that the person prefers it to one with the
    reference policy's average style features φ̄: never above 0, so that talking on earns nothing.
    """

    def __init__(self, person: str):
        """Infer the preference weights.

        Raises:
            UserError: that person has compared nothing.
        """
        self.preference_weights: Array = known_person(person).posterior.mean
        self.mean_features: Array = np.zeros_like(self.preference_weights)
        self.settled = False

    def score(self, conversations: Sequence[Conversation]) -> list[list[float]]:
        """Score every reply of every conversation, in nats."""
        w, usual = self.preference_weights, self.mean_features
        return [
            [-float(np.logaddexp(0, -w @ (features - usual))) for features in features_of(c)]
            for c in conversations
        ]

    def settle(self, conversations: Sequence[Conversation], ranks: Distributed) -> None:
        """Take average style features from what the reference policy said, on all ranks."""
        features = ranks.gather([f for c in conversations for f in features_of(c)])
        self.mean_features, self.settled = np.mean(features, axis=0), True

    def to_json(self) -> dict[str, Any]:
        """Make what `take_up` reads: weights, average features, and whether those are settled."""
        return {
            "preference_weights": self.preference_weights.tolist(),
            "mean_features": self.mean_features.tolist(),
            "settled": self.settled,
        }

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave; checkpoints of earlier versions have other keys."""
        weights = kept["preference_weights"] if "preference_weights" in kept else kept["taste"]
        features = kept["mean_features"] if "mean_features" in kept else kept["usual"]
        self.preference_weights, self.mean_features = np.array(weights), np.array(features)
        self.settled = bool(kept["settled"])


def features_of(conversation: Conversation) -> list[Array]:
    """Style features of every reply of the agent."""
    return [style_features(context, said.content) for context, (said,) in turns_of(conversation)]
