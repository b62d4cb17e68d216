"""What the code of an environment answers: read where it is clear, refused in a sentence if not.

Gymnasium asks for certain answers and checks none. What has one meaning alone is taken: NumPy's
strings and numbers, lists of chat messages, a dictionary with one text in it. Nothing is guessed:
an environment that is misread trains an agent on something else.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from rlchat.errors import RunError, UserError
from rlchat_envs import Conversation, Message
from rlchat_envs.core.messages import Role

FIVE = "(observation, reward, terminated, truncated, info)"
TEXT = "a string, a list of chat messages {role, content}, or a dictionary with one text in it"


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
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise EnvError(
            f"expected {method}() of {env} to return {expected}; it raised {what} "
            f"({Path(place.filename).name}, line {place.lineno}); {_remedy(error, method)}"
        ) from error


def _remedy(error: BaseException, method: str) -> str:
    said = str(error)
    if "thread" in said:
        return 'set metadata = {"single_threaded": True} in it, which keeps it in the main thread'
    keywords = isinstance(error, TypeError) and "unexpected keyword" in said
    if method == "reset" and keywords:
        return (
            "give it the keywords seed and options, as Gymnasium asks for: what an episode is "
            "must follow from its seed"
        )
    return "mend the environment"


def read_reset(env: str, answer: object) -> object:
    """The observation of what ``reset`` returned.

    Raises:
        EnvError: it returned no pair.
    """
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise EnvError(
            f"expected reset() of {env} to return (observation, info); got {_shown(answer)}; "
            "return an empty dictionary as info if there is nothing to tell"
        )
    return answer[0]


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
        if not isinstance(end, bool | np.bool_ | int):
            raise EnvError(
                f"expected True or False as {name} of step() of {env}; got {_shown(end)}; return "
                f"{FIVE}"
            )
    return observation, read_reward(env, reward), bool(terminated), bool(truncated), info


def read_reward(env: str, reward: object) -> float:
    """A reward as a number.

    Raises:
        EnvError: it is none, or not a finite one, which would spoil the scale of all scores.
    """
    number = math.nan
    if isinstance(reward, bool | int | float | np.generic) or getattr(reward, "size", 0) == 1:
        try:
            number = float(reward.item() if hasattr(reward, "item") else reward)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        raise EnvError(
            f"expected a finite number as reward of step() of {env}; got {_shown(reward)}; return "
            "0.0 where a turn earns nothing"
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


def read_following(env: str, observation: object, known: Conversation) -> Conversation:
    """The messages that follow the agent's; of a list that repeats the conversation, what is new.

    Args:
        env: its name.
        observation: of a step.
        known: the conversation, with the agent's message as the environment was given it.

    Raises:
        EnvError: they cannot be read, or not without a guess.
    """
    messages = _messages(observation)
    if messages is None:
        raise EnvError(
            f"expected {TEXT} as the observation of step() of {env}; got {_shown(observation)}; "
            "wrap the environment so that it speaks strings"
        )
    if messages[: len(known)] == known:
        return messages[len(known) :]
    shown = tuple(m for m in known if m.role != "assistant")
    repeats = len(messages) > len(shown) and messages[: len(shown)] == shown
    if repeats or any(m.role == "assistant" for m in messages):
        raise EnvError(
            f"expected messages that are new, or all of the conversation, in step() of {env}; got "
            f"{len(messages)} messages that are neither; return the new ones alone"
        )
    return messages


def _messages(observation: object) -> Conversation | None:
    """An observation as messages; None if it is not text in a form that is clear."""
    if (text := _text(observation)) is not None:
        return (Message("user", text),)
    if isinstance(observation, Mapping):
        if (one := _message(observation)) is not None:
            return (one,)
        found = [m for m in map(_messages, observation.values()) if m is not None]
        numbers = sum(map(_is_number, observation.values()))
        # Besides the text there may be numbers, a turn's say; anything else could be text as well.
        clear = len(found) == 1 and numbers == len(observation) - 1
        return found[0] if clear and "role" not in observation else None
    if isinstance(observation, Sequence) and not isinstance(observation, bytes):
        listed = [_message(m) if isinstance(m, Mapping) else None for m in observation]
        return None if None in listed else tuple(m for m in listed if m is not None)
    return None


def _message(entry: Mapping[Any, Any]) -> Message | None:
    """A chat message, if it is one."""
    role, content = entry.get("role"), _text(entry.get("content"))
    if content is None or role not in get_args(Role):
        return None
    return Message(cast(Role, role), content)


def _text(value: object) -> str | None:
    """A string, or NumPy's, alone or in an array."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "UO":
        value = value.item()
    return str(value) if isinstance(value, str) else None


def _is_number(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return value is None or isinstance(value, bool | int | float | np.number | np.bool_)


def _shown(value: object) -> str:
    """A value in a few words: its type says more than a page of it."""
    if isinstance(value, tuple):
        return f"{len(value)} values"
    if value is None or isinstance(value, bool | int | float | np.number):
        return str(value)
    shown = repr(value)
    kind = type(value).__name__
    return f"{kind} {shown}" if len(shown) <= 60 else f"{kind} {shown[:60]}…"
