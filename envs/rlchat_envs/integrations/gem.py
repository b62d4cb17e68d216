"""Games of GEM (https://github.com/axon-rl/gem, version 0.1.0).

Importing this registers them as ``GEM/<id>``: GEM's own id without the leading ``game:``, as
Gymnasium takes what precedes a colon for a module.
"""

from __future__ import annotations

import gymnasium as gym

from rlchat_envs.integrations.game_env import MAX_TURNS, Answer, GameEnv, import_package

REMEDY = "pip install 'rlchat[games]' under Python 3.11, the newest that GEM installs on"

_gem = import_package("gem", REMEDY)
_registry = import_package("gem.envs.registration", REMEDY).ENV_REGISTRY

PREFIX = "game:"

# The games that can be won, need no download, and deal a board within a second, by the beginning
# of their ids. docs/worlds/games-of-others.md says what is the matter with each of the others.
GAMES = (
    "Crosswords-v0-easy",
    "Crosswords-v0-hard",
    "FifteenPuzzle-v0-easy",
    "FifteenPuzzle-v0-hard",
    "Game2048-v0",
    "GuessTheNumber-v0",
    "Mastermind-v0",
    "Minesweeper-v0",
    "Sokoban-v0-easy",
    "Sudoku-v0",
    "TowerofHanoi-v0",
)


class GemGame:
    """A game of GEM: messages in, what it says to them out."""

    failure = Answer("The game could not read this message.", reward=-0.1, terminated=True)

    def __init__(self, name: str):
        """Make the game with GEM's id ``name``."""
        self._game = _gem.make(name)

    def begin(self, seed: int) -> str:
        """Start an episode; give the rules and the board."""
        return _with_board(*self._game.reset(seed=seed))

    def hear(self, message: str) -> Answer:
        """Play a message.

        GEM calls an episode truncated too when the turns of its rules are used up; it has paid
        for the position by then, so nothing is left to expect.
        """
        observation, reward, terminated, truncated, info = self._game.step(message)
        if not (terminated or truncated):
            return Answer(_with_board(observation, info), float(reward))
        won = not truncated and observation.startswith("Congratulations")
        return Answer(observation, float(reward), True, won)


def make(name: str) -> GameEnv:
    """Make the environment of the game with GEM's id ``name``."""
    return GameEnv(lambda: GemGame(name))


def _with_board(observation: str, info: dict[str, str]) -> str:
    """Append the board and the question that follows, which some games put into ``suffix``."""
    return "\n".join(t.strip("\n") for t in (observation, info.get("suffix", "")) if t)


for _id in _registry:
    if _id.startswith(tuple(PREFIX + game for game in GAMES)):
        gym.register(
            f"GEM/{_id.removeprefix(PREFIX)}",
            f"{__name__}:make",
            kwargs={"name": _id},
            max_episode_steps=MAX_TURNS,
        )
