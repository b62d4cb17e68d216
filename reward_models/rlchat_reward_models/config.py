"""Settings of the training of reward models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RewardModelTraining:
    """How a reward model is trained."""

    epochs: float = 1.0
    """Passes over the preferences; more where there are few."""
    batch: int = 8
    """Contexts in an optimizer step, each with all its replies."""
    learning_rate: float = 1e-4
    """Initial learning rate of backbone and heads; it falls to 0 along a cosine."""
    center: float = 0.01
    """Penalty on squared scores, which keeps them around zero (Eisenstein et al. 2023)."""
