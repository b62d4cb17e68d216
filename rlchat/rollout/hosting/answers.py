"""What the code of an environment answers: read where it is clear, refused in a sentence if not.

Gymnasium asks for certain answers and checks none. What has one meaning alone is taken: NumPy's
strings and numbers, lists of chat messages, a dictionary with one text in it. Nothing is guessed:
an environment that is misread trains an agent on something else.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args

import gymnasium as gym
import numpy as np

from rlchat.errors import RunError, UserError
from rlchat_envs import Conversation, Message, Tool
from rlchat_envs.core import tools
from rlchat_envs.core.messages import Role
from rlchat_reward_models.messages import whole

FIVE = "(observation, reward, terminated, truncated, info)"
TEXT = "a string, a list of chat messages {role, content}, or a dictionary with one text in it"
LARGEST = 1e30  # of a reward: float32, which scores are kept in, ends at 3e38, and sums need room
_DEEPEST = 3  # dictionaries inside one another
_TOLD = 200  # characters of somebody else's error


class EnvError(UserError):
    """The code of an environment raised, did not return, or returned what nobody can use.

    In training the episode is begun again; anywhere else the sentence is what a person reads.
    """


@contextmanager
def told(env: str, method: str, expected: str) -> Iterator[None]:
    """Turn whatever an environment's code raises into one sentence that says where.

    Errors that are sentences already pass: a server that users are spoken by is gone, say.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        raise EnvError(
            f"expected {method}() of {env} to return {expected}; it raised {raised(error)}; "
            f"{remedy(error, method)}"
        ) from error


def is_ctrl_c(error: BaseException) -> bool:
    """Whether a person has stopped the program: only the main thread is told so."""
    main = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and main


def raised(error: BaseException) -> str:
    """An error of somebody else's code in one line: what it is, what it says, and where."""
    (place,) = traceback.extract_tb(error.__traceback__, limit=-1)
    said = _said(error)
    return (
        f"{type(error).__name__}{': ' * bool(said)}{said} "
        f"({Path(place.filename).name}, line {place.lineno})"
    )


def _said(error: BaseException) -> str:
    """An error's own words in one line, which may be many lines, or none at all."""
    try:
        said = " ".join(str(error).split())
    except Exception:
        return ""
    return said if len(said) <= _TOLD else f"{said[:_TOLD]}…"


def remedy(error: BaseException, method: str = "") -> str:
    """What helps against an error that an environment raised."""
    said = _said(error)
    if "thread" in said:
        return 'set metadata = {"single_threaded": True} in it, which keeps it in the main thread'
    keywords = isinstance(error, TypeError) and "unexpected keyword" in said
    if method == "reset" and keywords:
        return (
            "give it the keywords seed and options, as Gymnasium asks for: what an episode is "
            "must follow from its seed"
        )
    return "mend the environment"


def read_reset(env: str, answer: object) -> tuple[object, object]:
    """The observation and info of what ``reset`` returned.

    Raises:
        EnvError: it returned no pair.
    """
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise EnvError(
            f"expected reset() of {env} to return (observation, info); got {_shown(answer)}; "
            "return an empty dictionary as info if there is nothing to tell"
        )
    return answer[0], answer[1]


def read_tools(env: str, info: object, space: gym.Space[Any] | None) -> tuple[Tool, ...]:
    """The functions that ``info`` of ``reset`` declares for the agent; none if it declares none.

    Args:
        env: its name.
        info: of ``reset``.
        space: of actions, in which calls must have a place.

    Raises:
        EnvError: what it declares are no functions, or none that can be called.
    """
    declared = info.get("tools") if isinstance(info, Mapping) else None
    if declared is None:
        return ()
    try:
        functions = tools.read_tools(declared)
    except ValueError as error:
        raise EnvError(
            f'{error} in info["tools"] of reset() of {env}; declare them as transformers takes '
            "them, or leave tools out"
        ) from error
    call = "".join(tools.write_call(tool.name, {}) for tool in functions[:1])
    if fit(call, space)[1]:
        raise EnvError(
            f"expected an action space of {env} that has room for {call}; got one without some of "
            "its letters; give Text a larger max_length and a charset with signs in it"
        )
    return functions


def read_step(env: str, answer: object) -> tuple[Any, float, bool, bool, Any]:
    """What ``step`` returned, with a reward that is a number and ends that are true or false.

    Raises:
        EnvError: it returned something else.
    """
    if not isinstance(answer, tuple) or len(answer) != 5:
        old = isinstance(answer, tuple) and len(answer) == 4
        remedy = "with the end of the old four split in two: terminated, truncated" if old else ""
        raise EnvError(
            f"expected step() of {env} to return {FIVE}; got {_shown(answer)}; return these five "
            f"{remedy}".rstrip()
        )
    observation, reward, terminated, truncated, info = answer
    for name, end in (("terminated", terminated), ("truncated", truncated)):
        if _number(end) not in (0.0, 1.0):
            raise EnvError(
                f"expected True or False as {name} of step() of {env}; got {_shown(end)}; return "
                f"{FIVE}"
            )
    ends = _number(terminated) == 1.0, _number(truncated) == 1.0
    return observation, read_reward(env, reward), *ends, info


def read_reward(env: str, reward: object) -> float:
    """A reward as a number.

    Raises:
        EnvError: it is none, or none that is finite and of a size to reckon with, which would spoil
            the scale of all scores.
    """
    number = _number(reward)
    if number is None or not abs(number) <= LARGEST:
        raise EnvError(
            f"expected a finite number as reward of step() of {env}, of at most {LARGEST:g}; got "
            f"{_shown(reward)}; return 0.0 where a turn earns nothing"
        )
    return number


def read_opening(env: str, observation: object) -> Conversation:
    """The messages that an episode begins with.

    Raises:
        EnvError: there are none, or the last is the agent's own.
    """
    messages = _messages(observation)
    if not messages or messages[-1].role == "assistant":
        raise EnvError(
            f"expected {TEXT}, and the agent to speak next, as the observation of reset() of "
            f"{env}; got {_shown(observation)}; wrap the environment so that it speaks strings"
        )
    return messages


def read_following(
    env: str, observation: object, known: Conversation, over: bool = False
) -> Conversation:
    """The messages that follow the agent's; of a list that repeats the conversation, what is new.

    Args:
        env: its name.
        observation: of a step.
        known: the conversation, with the agent's message as the environment was given it.
        over: whether the episode has ended, after which nothing needs to be said.

    Raises:
        EnvError: they cannot be read, or not without a guess.
    """
    messages = () if observation is None and over else _messages(observation)
    if messages is None or (not messages and not over):
        raise EnvError(
            f"expected {TEXT} as the observation of step() of {env}; got {_shown(observation)}; "
            "wrap the environment so that it speaks strings"
        )
    if messages[: len(known)] == known:
        following = messages[len(known) :]
        if not over and (not following or following[-1].role == "assistant"):
            raise EnvError(
                f"expected the agent to speak next after step() of {env}; got a conversation that "
                "ends with a message of the agent's; end the episode, or add what is said to it"
            )
        return following
    shown = tuple(m for m in known if m.role != "assistant")
    repeats = len(messages) > len(shown) and messages[: len(shown)] == shown
    if repeats or any(m.role == "assistant" for m in messages):
        raise EnvError(
            f"expected messages that are new, or all of the conversation, in step() of {env}; got "
            f"{len(messages)} messages that are neither; return the new ones alone"
        )
    return messages


def fit(text: str, space: gym.Space[Any] | None) -> tuple[str, int]:
    """Make a text a member of a `spaces.Text`; count the characters that had to go."""
    if not isinstance(space, gym.spaces.Text):
        return text, 0
    kept = "".join(c for c in text if c in space.character_set)[: space.max_length]
    filler = " " if " " in space.character_set else sorted(space.character_set)[0]
    return kept.ljust(space.min_length, filler), len(text) - len(kept)


def _messages(observation: object, depth: int = 0) -> Conversation | None:
    """An observation as messages; None if it is not text in a form that is clear."""
    if (text := _text(observation)) is not None:
        return (Message("user", text),)
    if isinstance(observation, Mapping) and depth < _DEEPEST:
        if (one := _message(observation)) is not None:
            return (one,)
        values = list(observation.values())
        found = [m for value in values if (m := _messages(value, depth + 1)) is not None]
        # Besides the text there may be numbers, a turn's say; anything else could be text as well.
        clear = len(found) == 1 and sum(map(_is_number, values)) == len(values) - 1
        return found[0] if clear and "role" not in observation else None
    if isinstance(observation, Sequence) and not isinstance(observation, bytes):
        listed = [_message(m) if isinstance(m, Mapping) else None for m in observation]
        return None if None in listed else tuple(m for m in listed if m is not None)
    return None


def _message(entry: Mapping[Any, Any]) -> Message | None:
    """A chat message, if it is one."""
    role, content = _text(entry.get("role")), _text(entry.get("content"))
    if role == "assistant" and entry.get("tool_calls"):
        content = tools.with_calls(content or "", entry["tool_calls"])
    if content is None or role not in get_args(Role):
        return None
    return Message(cast(Role, role), content)


def _text(value: object) -> str | None:
    """A string, or NumPy's, alone or in an array; without half surrogates, which have no tokens."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "UO":
        value = value.item()
    return whole(value) if isinstance(value, str) else None


def _number(value: object) -> float | None:
    """A number of Python's, NumPy's or torch's, alone or in an array of one; None if it is none."""
    try:
        plain: Any = value.item() if hasattr(value, "item") else value
        known = isinstance(plain, bool | int | float | Decimal | Fraction)
        return float(plain) if known else None
    except Exception:  # an array of several, a whole number too large for any float
        return None


def _is_number(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return value is None or _number(value) is not None


def _shown(value: object) -> str:
    """A value in a few words: its type says more than a page of it."""
    if isinstance(value, tuple):
        return f"{len(value)} values"
    plain = value is None or isinstance(value, bool | int | float | np.number)
    try:
        shown = " ".join((str(value) if plain else repr(value)).split())
    except Exception:  # a whole number of thousands of digits, or an object of somebody else's
        shown = ""
    if plain:
        return shown or "a huge number"
    kind = type(value).__name__
    return f"{kind} {shown}".strip() if len(shown) <= 60 else f"{kind} {shown[:60]}…"
