"""Games for one player of TextArena (https://github.com/LeonGuertler/TextArena, version 0.7.4).

Importing this registers them as ``TextArena/<id>``, with TextArena's own ids.
"""

from __future__ import annotations

import gymnasium as gym

from rlchat_envs.integrations.game_env import MAX_TURNS, Answer, GameEnv, import_package

_textarena = import_package("textarena")
_registry = import_package("textarena.envs.registration").ENV_REGISTRY

# The games for one player that can be won, need no download and no language model, and deal a
# board within a second. docs/worlds/games-of-others.md says what is wrong with each of the others.
GAMES = (
    "2048",
    "Blackjack",
    "Crosswords",
    "FrozenLake",
    "GuessTheNumber",
    "LightsOut",
    "LogicPuzzle",
    "Mastermind",
    "Minesweeper",
    "PegJump",
    "RushHour",
    "Secretary",
    "Sokoban",
    "Sudoku",
    "TowerOfHanoi",
)
SLOW = ("Sokoban-v0-medium",)


class TextArenaGame:
    """A game of TextArena: messages in, what it says to them out, the reward at the end."""

    failure = Answer("The game could not read this message.", reward=-1.0, terminated=True)

    def __init__(self, name: str):
        """Make the game with TextArena's id ``name``."""
        self._game = _textarena.make(name)

    def begin(self, seed: int) -> str:
        """Start an episode; give the rules and the board."""
        self._game.reset(num_players=1, seed=seed)
        return self._news()

    def hear(self, message: str) -> Answer:
        """Play a message; TextArena rewards the last one only, and gives the reason."""
        over, _ = self._game.step(message)
        if not over:
            return Answer(self._news())
        rewards, results = self._game.close()
        reward, result = float(rewards[0]), results[0]
        observation = f"{self._news()}\n{result['reason']}".lstrip("\n")
        return Answer(observation, reward, True, reward >= 1 and not result["invalid_move"])

    def _news(self) -> str:
        """What was said since the last call, without the player's own words."""
        own = _textarena.ObservationType.PLAYER_ACTION
        said = self._game.state.get_current_player_observation()
        return "\n".join(text.strip("\n") for _, text, kind in said if kind is not own)


def make(name: str) -> GameEnv:
    """Make the environment of the game with TextArena's id ``name``."""
    return GameEnv(lambda: TextArenaGame(name))


# An id that ends in -raw or -train is the same game with its conversation shown otherwise.
for _id in _registry:
    _playable = _id.partition("-v")[0] in GAMES and _id not in SLOW
    if _playable and not _id.endswith(("-raw", "-train")):
        gym.register(
            f"TextArena/{_id}",
            f"{__name__}:make",
            kwargs={"name": _id},
            max_episode_steps=MAX_TURNS,
        )
