"""rlchat/Medical-v0: a helpline that asks for red flags and history, and triages. A game."""

from rlchat_envs.scenarios.medical.scenario import MedicalCase, MedicalScenario

__all__ = ["MedicalCase", "MedicalScenario"]
