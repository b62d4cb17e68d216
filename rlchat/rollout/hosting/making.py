"""How an environment is found by its name, and made."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

import rlchat_envs
from rlchat.errors import RunError, UserError
from rlchat.rollout.hosting.answers import EnvError, is_ctrl_c, raised, remedy
from rlchat.rollout.knowledge import make_lookup
from rlchat.rollout.llm_users import make_writer
from rlchat_envs import Maker
from rlchat_envs.wrappers.knowledge import KnowledgeWrapper
from rlchat_reward_models import RuleScorer

if TYPE_CHECKING:
    from rlchat.rollout.environment import EnvConfig

WRITTEN = ("llm:", "llm-person:")  # how names of users begin who are spoken by a language model


def make_env(config: EnvConfig, split: str) -> gym.Env[str, str]:
    """Make a Gymnasium environment that exchanges text.

    Raises:
        UserError: the id is unknown, or its spaces are not text.
    """
    name, spec, tokens = config.env, find_spec(config.env), config.user_max_new_tokens
    # Models that write for users come first: an error there is not about the environment.
    spoken = [name for name in config.users if name.startswith(WRITTEN)]
    writers = {name: make_writer(name.partition(":")[2], tokens) for name in spoken}
    try:
        if isinstance(spec.entry_point, Maker):
            env = gym.make(
                spec.id,
                split=split,
                users=config.users,
                writers=writers,
                scorer=RuleScorer(),
                gamma=config.gamma,
                disable_env_checker=True,
            )
            if config.knowledge:
                env = KnowledgeWrapper(env, *(make_lookup(k) for k in config.knowledge))
        else:
            env = gym.make(spec.id, disable_env_checker=True)
        _refuse_numbers(name, env)
    except (UserError, RunError):
        raise
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        raise _unmade(name, error) from error
    return env


def _unmade(name: str, error: BaseException) -> EnvError:
    """Say why an environment cannot be made; errors of our own are sentences already."""
    (place,) = traceback.extract_tb(error.__traceback__, limit=-1)
    if rlchat_envs.__name__ in Path(place.filename).parts:
        return EnvError(f"{name} cannot be made: {error or type(error).__name__}")
    return EnvError(f"{name} cannot be made: it raised {raised(error)}; {remedy(error)}")


def _refuse_numbers(name: str, env: gym.Env[str, str]) -> None:
    """Refuse an environment whose spaces are of numbers.

    Raises:
        UserError: they are.
    """
    for kind in ("observation", "action"):
        space = space_of(env, kind)
        if not isinstance(space, gym.spaces.Text | rlchat_envs.Utterance) and _is_numeric(space):
            raise UserError(
                f"expected an environment with text {kind}s; {name} has {space}; wrap it so that "
                "it speaks strings"
            )


def close_env(env: gym.Env[str, str]) -> None:
    """Close an environment; what it raises at that costs nobody anything."""
    try:
        env.close()
    except BaseException as error:
        if is_ctrl_c(error):
            raise


def entry_of(name: str) -> object:
    """What makes a registered environment: a class, a function or a maker of ours.

    Returns:
        None if it cannot be imported; who makes the environment is told why.

    Raises:
        UserError: nothing of that name is registered.
    """
    declared = find_spec(name).entry_point
    try:
        return load_env_creator(declared) if isinstance(declared, str) else declared
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        return None


def single_threaded(env: object) -> bool:
    """Whether an environment, or what makes it, says that it bears the main thread only."""
    return _declares(env, "single_threaded")


def deterministic(env: object) -> bool:
    """Whether an environment, or what makes it, says that seed and messages decide all it does."""
    return _declares(env, "deterministic")


def _declares(env: object, name: str) -> bool:
    try:
        return bool(env.metadata.get(name))  # type: ignore[attr-defined]
    except Exception:  # there is no metadata, or it is no dictionary
        return False


def find_spec(name: str) -> EnvSpec:
    """Find a registered environment; a module before the colon is imported first.

    Raises:
        UserError: nothing is.
    """
    if ":" in name:
        module = name.partition(":")[0]
        if not all(part.isidentifier() for part in module.split(".")):
            raise UserError(f"expected module:Id, as in my_module:MyEnv-v0; got {name!r}")
        _import_here(module)
    try:
        return gym.spec(name.partition(":")[2] or name)
    except gym.error.Error as error:
        known = sorted(i for i in gym.registry if i.startswith("rlchat/"))
        near = get_close_matches(name, [*known, *gym.registry], n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(
            f"expected an environment such as {', '.join(known)}, or module:Id; got {name!r}{hint}"
        ) from error


def _import_here(module: str) -> None:
    """Import a module, from the working folder too, as under ``python -m``."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"expected an importable module before the colon; {module!r} is not: {error}; run "
            "from the folder that holds it"
        ) from error
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        raise UserError(
            f"expected an importable module before the colon; {module!r} raised {raised(error)}; "
            "mend it"
        ) from error


def space_of(env: gym.Env[str, str], kind: str) -> gym.Space[Any] | None:
    """A space that the environment declares; not all do."""
    return getattr(env, f"{kind}_space", None)


def _is_numeric(space: gym.Space[Any] | None) -> bool:
    return isinstance(
        space,
        gym.spaces.Box | gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary,
    )
