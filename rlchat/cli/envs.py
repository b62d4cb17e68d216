"""Verbs `envs …`: environments listed, begun, measured; their users measured."""

from __future__ import annotations

import keyword
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import gymnasium as gym
import tyro
from rich.console import Console
from rich.table import Table

import rlchat_envs
from rlchat import files
from rlchat.errors import UserError
from rlchat.rollout.env_options import EnvOptions
from rlchat.settings import expect, names
from rlchat_envs.users.personas import FAMILIES, PERSONAS
from rlchat_envs.users.statistics import HEADINGS, Talk, listen, rows
from rlchat_reward_models.stated_style import AXES


@dataclass(frozen=True)
class ListOptions:
    """List environments, their agents, and families of simulated users."""


def run_list(_: ListOptions, console: Console) -> None:
    """Print a table of environments, and one of users."""
    table = Table("environment", "what it is", "agents")
    for name in sorted(i for i in gym.registry if i.startswith("rlchat/")):
        env = gym.make(name).unwrapped
        assert isinstance(env, rlchat_envs.DialogueEnv)
        about = (env.scenario.__doc__ or "").splitlines()[0]
        table.add_row(name, about, ", ".join([*env.scenario.agents, "retrieval"]))
    console.print(table)
    people = Table("users", "what they do", "train", "dev", "test")
    for family, about in FAMILIES.items():
        personas = {p.split: p.name for p in PERSONAS.values() if p.family == family}
        people.add_row(family, about, *(personas[split] for split in rlchat_envs.SPLITS))
    console.print(people)
    styles = "; ".join(f"{axis}: {' or '.join(sides)}" for axis, sides in AXES.items())
    console.print(f"styles (--stated-style): {styles}; any", highlight=False, soft_wrap=True)
    console.print(f"splits: {', '.join(rlchat_envs.SPLITS)}", highlight=False)


@dataclass(frozen=True)
class UsersOptions(EnvOptions):
    """Measure how users talk: length, acts, words, and when they end it."""

    users: str = ",".join(FAMILIES)
    """Families of simulated users to measure, comma-separated, each alone."""
    data: Path | None = None
    """File of conversations to compare with, or a data set of the hub; if left out, the
    demonstrations that a warm start learns from."""
    split: Literal["train", "dev", "test"] = "train"
    """Split of the environment that goals and users come from."""
    episodes: int = 200
    """Number of conversations of each family with the demonstrator."""
    seed: int = 0
    """Seed of goals, users and what they say."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "episodes", self.episodes >= 1, "of at least 1")


def run_users(options: UsersOptions, console: Console) -> None:
    """Print a row for what they are measured by, and one for each family.

    Raises:
        UserError: no such environment, family or file.
    """
    from rlchat.cli.live.progress import Progress
    from rlchat.rollout.conversations import read_conversations
    from rlchat.rollout.demonstrations import demonstrate

    def talked(users: tuple[str, ...], split: str) -> Talk:
        env = replace(options.env_config, users=users)
        return listen(demonstrate(env, options.episodes, options.seed, split))

    if options.data is not None:
        with Progress(console) as progress:
            measure = listen(read_conversations(options.data, progress))
        name = options.data.name
    else:
        measure, name = talked((), "train"), "demonstrations"
    talks = {name: measure} | {
        user: talked((user,), options.split) for user in names(options.users)
    }
    table = Table(*HEADINGS, box=None, title=f"{options.env}, {options.split} split")
    for row in rows(talks, measure):
        table.add_row(*row)
    table.caption = f"lengths, acts, words, turns: divergence from {name}, 0 to 1 bit"
    console.print(table)


_MODULE = '''"""A scenario for rlchat; scenario.yaml says what happens in it."""

from pathlib import Path

from rlchat_envs import register
from rlchat_envs.consultation import ConsultScenario

register("{id}", lambda: ConsultScenario(Path(__file__).with_name("scenario.yaml")))
'''


@dataclass(frozen=True)
class NewOptions:
    """Write a small working scenario, to be changed into your own."""

    name: Annotated[str, tyro.conf.Positional]
    """Name of the new Python package: small letters, digits and underscores."""


def run_new(options: NewOptions, console: Console) -> None:
    """Write the package into the working folder, whole or not at all.

    Raises:
        UserError: the name cannot be a package's, or something of that name is there.
    """
    name, folder = options.name, Path(options.name)
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise UserError(
            f"expected a name of small letters, digits and underscores, as in plant_clinic; got "
            f"{name!r}"
        )
    if folder.exists():
        raise UserError(f"expected a new name; {folder} exists; give another")
    id = "".join(word.capitalize() for word in name.split("_")) + "-v0"
    text = resources.files("rlchat_envs.consultation").joinpath("template.yaml").read_text("utf-8")
    with files.atomic_folder(folder) as new:
        (new / "__init__.py").write_text(_MODULE.format(id=id), "utf-8")
        (new / "scenario.yaml").write_text(text, "utf-8")
    for line in (
        f"{folder}/scenario.yaml holds the scenario. With the file as it stands:",
        f"  rlchat play  --env {name}:{id}",
        f"  rlchat eval  expert --env {name}:{id}",
        f"  rlchat train --env {name}:{id} --run runs/{name}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
