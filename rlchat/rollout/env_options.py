"""Options that say whom an agent talks to, and how: environment, users, look-ups and style."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlchat.errors import UserError
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.mixture import Mixture
from rlchat.settings import names


@dataclass(frozen=True, kw_only=True)
class EnvOptions:
    """Environment, users, look-ups and style, where no run folder says which."""

    env: str = EnvConfig.env
    """Environment: a Gymnasium id (`rlchat envs` lists ours), or module:Id with a module in the
    working folder; it has to exchange text with the agent."""
    users: str = ""
    """Families of simulated users, comma-separated (`rlchat envs` lists them); if empty, the
    environment's usual ones."""
    knowledge: str = ""
    """What is looked up for the agent, comma-separated: bm25, dense or hybrid (in the scenario's
    documents, or in text files as bm25:FOLDER), graph (in its facts, or in graph:FILE.tsv or .ttl);
    if empty, nothing."""
    user_max_new_tokens: int = EnvConfig.user_max_new_tokens
    """Most tokens of one message of a user that a language model speaks for (llm:,
    llm-person:), its thoughts included: a model that thinks needs a thousand or more."""
    stated_style: str = ""
    """Style that the agent's instructions ask for, comma-separated: brief or detailed, formal or
    friendly, plain or advanced; each reply is scored by how far it follows. With any, each episode
    draws its own, parts of which may be left open; if empty, none is asked for."""

    @property
    def env_config(self) -> EnvConfig:
        """Environment, users and look-ups as settings of an environment."""
        return EnvConfig(
            self.env,
            names(self.users),
            knowledge=names(self.knowledge),
            user_max_new_tokens=self.user_max_new_tokens,
            stated_style=names(self.stated_style),
        )


@dataclass(frozen=True, kw_only=True)
class MixedEnvOptions(EnvOptions):
    """Environments, users and look-ups of a training."""

    env: str = EnvConfig.env
    """Environment: a Gymnasium id (`rlchat envs` lists ours), or module:Id with a module in the
    working folder; it has to exchange text with the agent. Several, comma-separated, are played in
    one run, each with its own scale of scores."""
    env_weights: str = ""
    """How often each of several environments is played: numbers in their order, comma-separated, as
    in 2,1; if empty, all equally often."""

    @property
    def mixture(self) -> Mixture:
        """The environments, and how often each is played.

        Raises:
            UserError: one is named twice, or weights are not a number above 0 for each.
        """
        envs = [replace(self.env_config, env=env) for env in names(self.env) or (self.env,)]
        return Mixture.of(envs, self.env_weights)


@dataclass(frozen=True, kw_only=True)
class AgentEnvOptions:
    """Environment, users and look-ups; if left out, those that an agent was trained with."""

    env: str | None = None
    """Environment: a Gymnasium id (`rlchat envs` lists ours), or module:Id with a module in the
    working folder. Left out (None), the one in which the agent's run was trained; for other agents
    rlchat/Support-v0."""
    users: str | None = None
    """Families of simulated users, comma-separated (`rlchat envs` lists them). Left out (None),
    those of the agent's run if the environment is the run's, else the environment's usual ones."""
    knowledge: str | None = None
    """What is looked up for the agent, comma-separated: bm25, dense or hybrid (in the scenario's
    documents, or in text files as bm25:FOLDER), graph (in its facts, or in graph:FILE.tsv or .ttl).
    Left out (None), as in the agent's run if the environment is the run's, else nothing."""
    user_max_new_tokens: int | None = None
    """Most tokens of one message of a user that a language model speaks for (llm:,
    llm-person:), its thoughts included: a model that thinks needs a thousand or more. Left out
    (None), as in the agent's run if the environment is the run's, else 60."""
    stated_style: str | None = None
    """Style that the agent's instructions ask for, comma-separated: brief or detailed, formal or
    friendly, plain or advanced; or any, which draws it for each episode. '' asks for none. Left out
    (None), as in the agent's run if the environment is the run's, else none."""

    def env_of(self, agent: str | Path) -> EnvConfig:
        """Settings of an agent's environment: what is named here, else what its run trained in.

        Raises:
            UserError: the record of its run cannot be read, or there are several environments.
        """
        found = self.envs_of(agent)
        if len(found) > 1:
            raise UserError(
                f"expected one environment; got {' and '.join(e.env for e in found)}; name one "
                "with --env"
            )
        return found[0]

    def envs_of(self, agent: str | Path) -> tuple[EnvConfig, ...]:
        """Settings of all of an agent's environments; see `env_of`.

        Raises:
            UserError: the record of its run cannot be read.
        """
        trained_in = () if self._complete else run_environments(agent)
        if self.env is not None:
            envs = names(self.env) or (self.env,)
        else:
            envs = tuple(e.env for e in trained_in) or (EnvConfig.env,)
        known = {e.env: e for e in trained_in}
        return tuple(self._over(known.get(env, EnvConfig(env))) for env in envs)

    def _over(self, usual: EnvConfig) -> EnvConfig:
        """An environment with what was given here in the place of what is usual."""
        tokens, style = self.user_max_new_tokens, self.stated_style
        return EnvConfig(
            usual.env,
            usual.users if self.users is None else names(self.users),
            knowledge=usual.knowledge if self.knowledge is None else names(self.knowledge),
            user_max_new_tokens=usual.user_max_new_tokens if tokens is None else tokens,
            stated_style=usual.stated_style if style is None else names(style),
        )

    @property
    def _complete(self) -> bool:
        return None not in (self.env, self.users, self.knowledge, self.stated_style)


def run_environments(agent: str | Path) -> tuple[EnvConfig, ...]:
    """Environments, users and look-ups with which the run of an agent was trained.

    Args:
        agent: a run folder or an adapter in one; anything else has no run.

    Returns:
        None of them if there is no run: a plain adapter, a starter, a scripted agent.

    Raises:
        UserError: the run's record cannot be read.
    """
    folder = run_folder_of(agent)
    if folder is None:
        return ()
    recorded = read_record(folder)
    try:
        users, knowledge = names(recorded.get("users", "")), names(recorded.get("knowledge", ""))
        config = EnvConfig(
            users=users,
            knowledge=knowledge,
            user_max_new_tokens=int(
                recorded.get("user_max_new_tokens", EnvConfig.user_max_new_tokens)
            ),
            stated_style=names(recorded.get("stated_style", "")),
        )
        return tuple(replace(config, env=env) for env in names(str(recorded["env"])))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(folder) from error


def run_folder_of(agent: str | Path) -> Path | None:
    """The run folder that an agent's adapter lies in; None if it lies in none."""
    place = Path(agent)
    if not place.is_dir():
        return None
    place = place.resolve()
    around = [place.parent.parent] if place.parent.name == "versions" else []
    return next((folder for folder in (place, place.parent, *around) if _is_run(folder)), None)


def _is_run(folder: Path) -> bool:
    """Whether a training has left its record there; base models have a config.json as well."""
    if not (folder / "config.json").is_file():
        return False
    if (folder / "versions.json").is_file():
        return True
    try:
        recorded = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(recorded, dict) and {"env", "resolved"} <= recorded.keys()


def read_record(folder: Path) -> dict[str, Any]:
    """The settings that a training has left in its run folder.

    Raises:
        UserError: they cannot be read.
    """
    try:
        recorded = json.loads((folder / "config.json").read_text("utf-8"))
        if isinstance(recorded, dict) and "env" in recorded:
            return recorded
    except (OSError, ValueError) as error:
        raise _unreadable(folder) from error
    raise _unreadable(folder)


def _unreadable(folder: Path) -> UserError:
    return UserError(
        f"expected the record of a training in {folder / 'config.json'}, which names its "
        "environment; it cannot be read; restore the file, or name --env, --users, "
        "--knowledge and --stated-style"
    )
