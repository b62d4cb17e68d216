"""GEM's games keep the contract, and the games' own rules still hold through the adapter."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("gem", reason="gem-llm installs on Python 3.11, not on newer ones")

from rlchat_envs import Utterance
from rlchat_envs.integrations import gem as adapter
from rlchat_envs.integrations.game_env import import_package

IDS = [i for i in gym.registry if i.startswith("GEM/")]
ONE_OF_EACH = [next(i for i in IDS if i.startswith(f"GEM/{game}")) for game in adapter.GAMES]

Dice = np.random.Generator
Step = tuple[str, float, bool, bool, dict[str, Any]]


def one_of(*words: str) -> Callable[[Dice], str]:
    return lambda dice: str(dice.choice(words))


def numbers(*ranges: tuple[int, int]) -> Callable[[Dice], str]:
    return lambda dice: " ".join(str(dice.integers(low, high + 1)) for low, high in ranges)


MOVES: dict[str, Callable[[Dice], str]] = {
    "Crosswords": lambda d: f"{numbers((0, 9), (0, 9))(d)} {one_of(*'aeiorstn')(d)}",
    "FifteenPuzzle": one_of("up", "down", "left", "right"),
    "Game2048": one_of("up", "down", "left", "right"),
    "GuessTheNumber": numbers((1, 10)),
    "Mastermind": lambda d: " ".join(str(n + 1) for n in d.permutation(6)[:2]),
    "Minesweeper": lambda d: f"{one_of('reveal', 'flag')(d)} {numbers((0, 4), (0, 4))(d)}",
    "Sokoban": one_of("up", "down", "left", "right"),
    "Sudoku": numbers((1, 4), (1, 4), (1, 4)),
    "TowerofHanoi": lambda d: f"{one_of(*'ABC')(d)} {one_of(*'ABC')(d)}",
}

WEIRD = (
    "",
    " \n\t",
    "\\boxed",
    "\\boxed{}",
    "\\boxed{-1 -1 -1}",
    "\\boxed{999 999 999}",
    "\x00",
    "\\boxed{\u0661 \u0662}",  # Arabic digits, which are digits to Python
    "\\boxed{²}",
    "你好 🎲 é",
    "a" * 10_000,
    "\\boxed{" * 2_000,
    "\\boxed{1 1}" * 1_000,
    "\\boxed{" + "9" * 10_000 + "}",
    "\\boxed{" + "9" * 9_980 + " 1 a}",
)


def make(name: str) -> gym.Env[str, str]:
    return gym.make(name, disable_env_checker=True)


def inside(env: gym.Env[str, str]) -> Any:
    """GEM's own environment, with all its secrets."""
    return env.unwrapped._game._game  # type: ignore[attr-defined]


def play_at_random(name: str, seed: int) -> tuple[str, list[Step]]:
    env, dice = make(name), np.random.default_rng(seed)
    opening, _ = env.reset(seed=seed)
    move = MOVES[name.removeprefix("GEM/").split("-")[0]]
    steps: list[Step] = []
    while not steps or not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(f"\\boxed{{{move(dice)}}}"))  # type: ignore[arg-type]
    return opening, steps


def hanoi(disks: int, a: str = "A", b: str = "B", c: str = "C") -> Iterator[str]:
    if disks:
        yield from hanoi(disks - 1, a, c, b)
        yield f"{a} {c}"
        yield from hanoi(disks - 1, b, a, c)


def test_the_games_are_registered() -> None:
    assert len(IDS) == 24
    assert all(any(i.startswith(f"GEM/{game}") for game in adapter.GAMES) for i in IDS)
    assert {"GEM/GuessTheNumber-v0-easy", "GEM/Game2048-v0-extreme-hard"} <= set(IDS)
    assert not any("Wordle" in i or ":" in i or "FifteenPuzzle-v0-random" in i for i in IDS)


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
    assert all(
        type(s[1]) is float and s[2:] == (False, False, {"success": False}) for s in steps[:-1]
    )
    # The turns of GEM's own rules: used up, they end the game and cut nothing off.
    assert steps[-1][2:4] == (True, False)
    assert -0.1 <= sum(s[1] for s in steps) <= 1 + 1e-9


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_seed_alone_decides(name: str) -> None:
    assert play_at_random(name, seed=5) == play_at_random(name, seed=5)


def test_another_seed_and_no_seed_give_other_episodes() -> None:
    env, again = make("GEM/FifteenPuzzle-v0-hard"), make("GEM/FifteenPuzzle-v0-hard")
    seen = [env.reset(seed=3)[0], env.reset()[0], env.reset()[0]]
    assert seen == [again.reset(seed=3)[0], again.reset()[0], again.reset()[0]]
    assert len({*seen, env.reset(seed=4)[0]}) == 4


def test_two_environments_do_not_disturb_each_other() -> None:
    def boards(env: gym.Env[str, str]) -> Iterator[str]:
        yield env.reset(seed=1)[0]
        for move in ("left", "up", "left", "up"):
            yield env.step(f"\\boxed{{{move}}}")[0]

    alone = list(boards(make("GEM/Game2048-v0-easy")))
    pair = zip(*(boards(make("GEM/Game2048-v0-easy")) for _ in range(2)), strict=True)
    assert [(a, a) for a in alone] == list(pair)


@pytest.mark.parametrize(("name", "top", "most"), [("easy", 10, 4), ("hard", 50, 6)])
def test_halving_wins_guess_the_number(name: str, top: int, most: int) -> None:
    env = make(f"GEM/GuessTheNumber-v0-{name}")
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        assert f"between 1 and {top} (inclusive)" in observation
        low, high, reward, over, guesses = 1, top, 0.0, False, 0
        while not over:
            middle = (low + high) // 2
            observation, reward, over, _, info = env.step(f"\\boxed{{{middle}}}")
            low, high = (middle + 1, high) if "higher" in observation else (low, middle - 1)
            guesses += 1
        assert (reward, info["success"]) == (1.0, True)
        assert observation.startswith("Congratulations!")
        assert guesses <= most  # 2^4 > 10 and 2^6 > 50


def test_an_observation_is_what_is_new() -> None:
    env = make("GEM/GuessTheNumber-v0-easy")
    env.reset(seed=0)
    target = inside(env).game_number
    wrong = 10 if target < 10 else 1
    hint = "lower" if target < 10 else "higher"
    said = f"At turn 1, you guessed {wrong}, and the target number is {hint} than {wrong}."
    first = env.step(f"\\boxed{{{wrong}}}")
    assert first[:2] == (f"{said}\nEnter your next guess.", 0.0)
    for _ in range(2):
        assert env.step(f"\\boxed{{{wrong}}}")[1:3] == (0.0, False)
    # The fourth and last turn is worth the closeness of its guess. It terminates the episode.
    end = env.step(f"\\boxed{{{wrong}}}")
    assert end[0] == "You have reached the maximum number of turns."
    assert end[1] == pytest.approx(1 - abs(wrong - target) / 9)
    assert end[2:] == (True, False, {"success": False})


def test_a_board_follows_the_news() -> None:
    env = make("GEM/TowerofHanoi-v0-easy")
    assert "\nA: [3, 2, 1]\nB: []\nC: []\n" in env.reset(seed=0)[0]
    observation = env.step("\\boxed{A C}")[0]
    assert observation.startswith("At turn 1, you moved disk 1 from tower A to tower C.\n")
    assert observation.endswith("\nA: [3, 2]\nB: []\nC: [1]\n\nEnter your move.")


def solve_crosswords(game: Any) -> Iterator[str]:
    for row, letters in enumerate(game.solution):
        for column, letter in enumerate(letters):
            if letter != ".":
                yield f"{row} {column} {letter}"


def solve_mastermind(game: Any) -> Iterator[str]:
    yield " ".join(str(n) for n in game.game_code)


def solve_minesweeper(game: Any) -> Iterator[str]:
    yield "reveal 0 0"  # the mines are laid after the first move, around it
    cells = [(row, column) for row in range(game.rows) for column in range(game.cols)]
    mines = [(row, column) for row, column in cells if game.grid[row][column] == -1]
    # The last cell wins only once all mines are flagged.
    yield from (f"flag {row} {column}" for row, column in mines)
    for row, column in cells:
        if (row, column) not in mines and not game.revealed[row][column]:
            yield f"reveal {row} {column}"


def solve_sudoku(game: Any) -> Iterator[str]:
    for row, digits in enumerate(game.full_grid):
        for column, digit in enumerate(digits):
            if game.board[row][column] == 0:
                yield f"{row + 1} {column + 1} {digit}"


@pytest.mark.parametrize(
    ("name", "solve"),
    [
        ("Crosswords-v0-easy", solve_crosswords),
        ("Mastermind-v0-hard", solve_mastermind),
        ("Minesweeper-v0-hard", solve_minesweeper),
        ("Sudoku-v0-easy", solve_sudoku),
        ("TowerofHanoi-v0-easy", lambda _: hanoi(3)),
        ("TowerofHanoi-v0-hard", lambda _: hanoi(5)),
    ],
)
def test_the_rewards_of_a_won_game_add_up_to_one(
    name: str, solve: Callable[[Any], Iterator[str]]
) -> None:
    for seed in range(3):
        env = make(f"GEM/{name}")
        env.reset(seed=seed)
        steps = [env.step(f"\\boxed{{{move}}}") for move in solve(inside(env))]
        assert sum(s[1] for s in steps) == pytest.approx(1)
        assert min(s[1] for s in steps) >= 0
        assert not any(s[2] or s[4]["success"] for s in steps[:-1])
        assert steps[-1][2:] == (True, False, {"success": True})


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_nonsense_is_survived(name: str) -> None:
    env, over, seed = make(name), True, 0
    for message in WEIRD:
        if over:
            env.reset(seed=(seed := seed + 1))
        observation, reward, over, truncated, info = env.step(message)
        assert observation.strip()
        assert -0.1 <= reward <= 1
        assert not truncated
        assert info == {"success": False}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30) | st.integers().map("\\boxed{{{}}}".format), max_size=9))
def test_any_text_is_a_message(said: list[str]) -> None:
    env = make("GEM/GuessTheNumber-v0-hard")
    env.reset(seed=1)
    for message in said:
        _, reward, over, _, info = env.step(message)
        assert reward == -0.1 or 0 <= reward <= 1
        assert info["success"] == (over and reward == 1)
        if over:
            break


def test_a_message_that_the_game_fails_on_loses_it() -> None:
    env = make("GEM/Crosswords-v0-easy")
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.step("\\boxed{0 0 a}")
    env.reset(seed=0)
    message = "\\boxed{" + "9" * 5_000 + " 1 a}"  # Python refuses to read a number as long as this
    with pytest.raises(ValueError, match="digits"):
        inside(env).step(message)
    env.reset(seed=0)
    lost = (True, False, {"success": False})
    assert env.step(message) == ("The game could not read this message.", -0.1, *lost)
    with pytest.raises(gym.error.ResetNeeded):
        env.step("\\boxed{0 0 a}")
    env.reset(seed=0)
    # That is what GEM gives for a message without a move.
    assert env.step("I pass.")[1:] == (-0.1, *lost)


def test_global_random_states_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), pickle.dumps(np.random.get_state())
    for name in ONE_OF_EACH:
        play_at_random(name, seed=2)
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before
    assert capsys.readouterr().out == ""


def test_importing_disturbs_nobody() -> None:
    program = (
        "import logging, random, sys\n"
        "random.seed(1); before = random.getstate()\n"
        "import rlchat_envs.integrations.gem\n"
        "assert random.getstate() == before\n"
        "assert not logging.root.handlers and logging.root.level == logging.WARNING\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gem", None)
    with pytest.raises(ImportError, match=r"package gem; .* pip install 'rlchat\[games\]' under"):
        import_package("gem", adapter.REMEDY)
