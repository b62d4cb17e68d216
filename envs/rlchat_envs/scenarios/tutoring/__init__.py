"""rlchat/Tutoring-v0: a student with gaps and misconceptions."""

from rlchat_envs.scenarios.tutoring.scenario import TutoringCase, TutoringScenario

__all__ = ["TutoringCase", "TutoringScenario"]
