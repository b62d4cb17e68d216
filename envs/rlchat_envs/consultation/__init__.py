"""Consultations: ask for what matters, then offer the right thing; each described by a file."""

from rlchat_envs.consultation.scenario import ConsultCase, ConsultScenario

__all__ = ["ConsultCase", "ConsultScenario"]
