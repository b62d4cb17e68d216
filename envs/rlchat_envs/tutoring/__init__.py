"""rlchat/Tutoring-v0: a student with gaps and misconceptions."""

from rlchat_envs.tutoring.scenario import TutoringCase, TutoringScenario

__all__ = ["TutoringCase", "TutoringScenario"]
