"""TextArena's games keep the contract, and the games' own rules still hold through the adapter."""

from __future__ import annotations

import pickle
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("textarena")

from rlchat_envs import Utterance
from rlchat_envs.integrations import textarena as adapter
from rlchat_envs.integrations.game_env import Randomness, import_package

IDS = [i for i in gym.registry if i.startswith("TextArena/")]
ONE_OF_EACH = [next(i for i in IDS if i.startswith(f"TextArena/{g}-v0")) for g in adapter.GAMES]

Dice = np.random.Generator
Step = tuple[str, float, bool, bool, dict[str, Any]]


def one_of(*words: str) -> Callable[[Dice], str]:
    return lambda dice: str(dice.choice(words))


def numbers(*ranges: tuple[int, int]) -> Callable[[Dice], str]:
    return lambda dice: " ".join(str(dice.integers(low, high + 1)) for low, high in ranges)


MOVES: dict[str, Callable[[Dice], str]] = {
    "2048": one_of("up", "down", "left", "right"),
    "Blackjack": one_of("hit", "stand"),
    "Crosswords": lambda d: f"{numbers((0, 9), (0, 9))(d)} {one_of(*'aeiorstn')(d)}",
    "FrozenLake": one_of("up", "down", "left", "right"),
    "GuessTheNumber": numbers((1, 20)),
    "LightsOut": numbers((0, 4), (0, 4)),
    "LogicPuzzle": lambda d: f"{one_of('alice', 'bob')(d)} {one_of('park', 'red')(d)} X",
    "Mastermind": lambda d: " ".join(str(n + 1) for n in d.permutation(6)[:4]),
    "Minesweeper": numbers((0, 4), (0, 4)),
    "PegJump": numbers((1, 15), (1, 15)),
    "RushHour": lambda d: one_of(*"XABCDEF")(d) + one_of(*"+-")(d),
    "Secretary": one_of("accept", "continue", "continue"),
    "Sokoban": one_of("up", "down", "left", "right"),
    "Sudoku": numbers((1, 9), (1, 9), (1, 9)),
    "TowerOfHanoi": lambda d: f"{one_of(*'ABC')(d)} {one_of(*'ABC')(d)}",
}

WEIRD = (
    "",
    " \n\t",
    "[",
    "[]",
    "][",
    "[-1 -1 -1]",
    "[999 999 999]",
    "[1, 2, 3, 4, 5]",
    "\x00",
    "[\u0661 \u0662]",  # Arabic digits, which are digits to Python
    "[²]",
    "你好 🎲 é",
    "a" * 10_000,
    "[" * 10_000,
    "[1 1]" * 2_000,
    "[" + "9" * 10_000 + "]",
    "[" + "9" * 9_990 + " 1 1]",
)


def make(name: str) -> gym.Env[str, str]:
    return gym.make(name, disable_env_checker=True)


def inside(env: gym.Env[str, str]) -> Any:
    """TextArena's own environment, with all its secrets."""
    game = env.unwrapped._game._game  # type: ignore[attr-defined]
    while hasattr(game, "env"):
        game = game.env
    return game


def play_at_random(name: str, seed: int) -> tuple[str, list[Step]]:
    env, dice = make(name), np.random.default_rng(seed)
    opening, _ = env.reset(seed=seed)
    move = MOVES[name.removeprefix("TextArena/").split("-")[0]]
    steps: list[Step] = []
    while not steps or not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(f"[{move(dice)}]"))  # type: ignore[arg-type]
    return opening, steps


def hanoi(disks: int, a: str = "A", b: str = "B", c: str = "C") -> Iterator[str]:
    if disks:
        yield from hanoi(disks - 1, a, c, b)
        yield f"[{a} {c}]"
        yield from hanoi(disks - 1, b, a, c)


def test_the_games_are_registered() -> None:
    assert len(IDS) == 48
    assert {i.removeprefix("TextArena/").split("-")[0] for i in IDS} == set(adapter.GAMES)
    assert "TextArena/GuessTheNumber-v0" in IDS
    assert not any(re.search(r"-raw|-train|Wordle|Chess|Sokoban-v0-medium", i) for i in IDS)


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_accepts_the_environment(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(name)
        check_env(env.unwrapped)
    assert env.observation_space == env.action_space == Utterance()


@pytest.mark.parametrize("name", IDS)
def test_a_random_agent_comes_to_the_end(name: str) -> None:
    opening, steps = play_at_random(name, seed=3)
    assert opening.strip()
    assert all(isinstance(s[0], str) and s[0].strip() for s in steps)
    # TextArena rewards the end and nothing before it.
    assert all(s[1:] == (0.0, False, False, {"success": False}) for s in steps[:-1])
    assert type(steps[-1][1]) is float
    assert steps[-1][1] <= 1
    assert steps[-1][2:4] in ((True, False), (False, True))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_seed_alone_decides(name: str) -> None:
    assert play_at_random(name, seed=5) == play_at_random(name, seed=5)


def test_another_seed_and_no_seed_give_other_episodes() -> None:
    env, again = make("TextArena/Secretary-v0-long"), make("TextArena/Secretary-v0-long")
    seen = [env.reset(seed=3)[0], env.reset()[0], env.reset()[0]]
    assert seen == [again.reset(seed=3)[0], again.reset()[0], again.reset()[0]]
    assert len({*seen, env.reset(seed=4)[0]}) == 4


def test_two_environments_do_not_disturb_each_other() -> None:
    def hands(env: gym.Env[str, str]) -> Iterator[str]:
        yield env.reset(seed=1)[0]
        for _ in range(5):
            yield env.step("[stand]")[0]

    alone = list(hands(make("TextArena/Blackjack-v0-long")))
    pair = zip(*(hands(make("TextArena/Blackjack-v0-long")) for _ in range(2)), strict=True)
    assert [(a, a) for a in alone] == list(pair)


@pytest.mark.parametrize(("name", "top", "most"), [("", 20, 5), ("-hardcore", 50, 6)])
def test_halving_wins_guess_the_number(name: str, top: int, most: int) -> None:
    env = make(f"TextArena/GuessTheNumber-v0{name}")
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        assert f"between 1 and {top} within 10 turns" in observation
        low, high, reward, over, guesses = 1, top, 0.0, False, 0
        while not over:
            middle = (low + high) // 2
            observation, reward, over, _, info = env.step(f"[{middle}]")
            low, high = (middle + 1, high) if "higher" in observation else (low, middle - 1)
            guesses += 1
        assert (reward, info["success"]) == (1.0, True)
        assert observation == "Congratulations! You guessed the correct number."
        assert guesses <= most  # 2^5 > 20 and 2^6 > 50


def test_an_observation_is_what_is_new() -> None:
    env = make("TextArena/GuessTheNumber-v0")
    env.reset(seed=0)
    target = inside(env).game_number
    wrong = 20 if target < 20 else 1
    hint = "lower" if target < 20 else "higher"
    # Brackets are put around a message that has none, as TextArena does.
    assert env.step(str(wrong))[0] == f"The target number is {hint}."
    repeated = env.step(f"I say [{wrong}] again.")
    assert "Player 0 has already guessed the number" in repeated[0]
    assert "You are playing" not in repeated[0]
    assert repeated[1:4] == (0.0, False, False)
    # A second unreadable message in a row ends it, worth the closeness of the last guess.
    end = env.step("what now")
    assert end[1] == pytest.approx(1 - abs(wrong - target) / 19)
    assert end[2:] == (True, False, {"success": False})
    assert end[0].startswith("Invalid Move: Invalid move format.")


@pytest.mark.parametrize(
    ("name", "disks"),
    [("", 3), ("-medium", 4), ("-hard", 5), ("-hardcore", 6), ("-extreme", 7)],
)
def test_the_towers_are_moved(name: str, disks: int) -> None:
    env = make(f"TextArena/TowerOfHanoi-v0{name}")
    env.reset(seed=0)
    steps = [env.step(move) for move in hanoi(disks)]
    assert len(steps) == 2**disks - 1
    assert not any(s[2] for s in steps[:-1])
    assert steps[-1][1:] == (1.0, True, False, {"success": True})


def solve_sudoku(game: Any) -> Iterator[str]:
    for row, (board, full) in enumerate(zip(game.game_board, game.full_grid, strict=True), 1):
        for column, (cell, digit) in enumerate(zip(board, full, strict=True), 1):
            if cell == 0:
                yield f"[{row} {column} {digit}]"


def solve_crosswords(game: Any) -> Iterator[str]:
    for row, letters in enumerate(game.state.game_state["solution"]):
        for column, letter in enumerate(letters):
            if letter != ".":
                yield f"[{row} {column} {letter}]"


def solve_mastermind(game: Any) -> Iterator[str]:
    yield f"[{' '.join(str(n) for n in game.state.game_state['secret_code'])}]"


def solve_minesweeper(game: Any) -> Iterator[str]:
    yield "[0 0]"  # the mines are laid after the first move, around it
    for row in range(game.rows):
        for column in range(game.cols):
            if game.grid[row][column] != -1 and not game.revealed[row][column]:
                yield f"[{row} {column}]"


@pytest.mark.parametrize(
    ("name", "solve"),
    [
        ("Sudoku-v0-easy", solve_sudoku),
        ("Crosswords-v0", solve_crosswords),
        ("Mastermind-v0-extreme", solve_mastermind),
        ("Minesweeper-v0", solve_minesweeper),
    ],
)
def test_who_knows_the_secret_wins(name: str, solve: Callable[[Any], Iterator[str]]) -> None:
    for seed in range(3):
        env = make(f"TextArena/{name}")
        env.reset(seed=seed)
        steps = [env.step(move) for move in solve(inside(env))]
        assert [s[1] for s in steps] == [0.0] * (len(steps) - 1) + [1.0]
        assert steps[-1][2:] == (True, False, {"success": True})


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_nonsense_is_survived(name: str) -> None:
    env, over, seed = make(name), True, 0
    for message in WEIRD:
        if over:
            env.reset(seed=(seed := seed + 1))
        observation, reward, over, truncated, info = env.step(message)
        assert observation.strip()
        assert reward <= 1
        assert not truncated
        assert set(info) == {"success"}
        assert not (over and reward == 0 and info["success"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30) | st.integers().map("[{}]".format), max_size=15))
def test_any_text_is_a_message(said: list[str]) -> None:
    env = make("TextArena/GuessTheNumber-v0")
    env.reset(seed=1)
    for message in said:
        _, reward, over, _, info = env.step(message)
        assert 0 <= reward <= 1
        assert info["success"] == (over and reward == 1)
        if over:
            break


def test_a_message_that_the_game_fails_on_loses_it() -> None:
    env = make("TextArena/GuessTheNumber-v0")
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.step("[1]")
    env.reset(seed=0)
    message = "[" + "9" * 5_000 + "]"  # Python refuses to read a number as long as this
    with pytest.raises(ValueError, match="digits"):
        inside(env).step(message)
    env.reset(seed=0)
    end = env.step(message)
    assert end == ("The game could not read this message.", -1.0, True, False, {"success": False})
    with pytest.raises(gym.error.ResetNeeded):
        env.step("[1]")
    assert "Guess The Number" in env.reset(seed=0)[0]


def test_a_board_that_cannot_be_dealt_is_dealt_again() -> None:
    # One seed in 8,000 scrambles the lights until all of them are off, and TextArena divides by
    # their number.
    env = make("TextArena/LightsOut-v0")
    first = int(seeding.np_random(18_728)[0].integers(2**31))
    with pytest.raises(ZeroDivisionError), Randomness(first):
        inside(env).reset(num_players=1, seed=first)
    assert "O" in env.reset(seed=18_728)[0].rpartition("OFF")[2]


def test_global_random_states_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), pickle.dumps(np.random.get_state())
    for name in ONE_OF_EACH:
        play_at_random(name, seed=2)
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before
    assert capsys.readouterr().out == ""  # RushHour and LogicPuzzle print as they play


def test_importing_disturbs_nobody() -> None:
    program = (
        "import logging, random, sys\n"
        "random.seed(1); before = random.getstate()\n"
        "import rlchat_envs.integrations.textarena\n"
        "assert random.getstate() == before\n"
        "assert not logging.root.handlers and logging.root.level == logging.WARNING\n"
        "print(sorted({'torch', 'transformers', 'openai'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textarena", None)
    with pytest.raises(ImportError, match=r"package textarena; .* pip install 'rlchat\[games\]'"):
        import_package("textarena")
