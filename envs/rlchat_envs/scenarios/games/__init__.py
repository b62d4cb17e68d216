"""Pure dialogue games, for which the least number of questions is known."""

from rlchat_envs.scenarios.games.guess_number import GuessNumberScenario
from rlchat_envs.scenarios.games.twenty_questions import TwentyQuestionsScenario

__all__ = ["GuessNumberScenario", "TwentyQuestionsScenario"]
