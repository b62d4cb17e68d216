"""Verbs `models …`: base models and trained agents listed and fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from rlchat.models import starters
from rlchat.models.fetching import catalog


@dataclass(frozen=True)
class ListOptions:
    """List base models and the trained agents that come with the package."""


def run_list(_: ListOptions, console: Console) -> None:
    """Print a table of each."""
    table = Table("name", "what it is", "licence", "MB", "here")
    for model, here in catalog.list_models():
        table.add_row(
            model.name, model.about, model.licence, str(model.megabytes), "yes" if here else "no"
        )
    console.print(table)
    agents = Table("trained agent", "what it is", "MB", "solved of unseen users, 95%")
    solved = starters.read_card()["success"]
    for starter in starters.STARTERS.values():
        rate = "{mean:.0%} ({low:.0%} … {high:.0%})".format(**solved[starter.name])
        agents.add_row(starter.name, starter.about, f"{starter.megabytes:.1f}", rate)
    console.print(agents)


@dataclass(frozen=True)
class FetchOptions:
    """Bring a base model onto this machine."""

    name: Annotated[str, tyro.conf.Positional] = "smollm2-135m"
    """Name of the model, as `rlchat models list` shows it."""


def run_fetch(options: FetchOptions, console: Console) -> None:
    """Download and convert a model, unless it is here."""
    folder = catalog.fetch(options.name, lambda line: console.print(line, markup=False))
    console.print(f"{options.name} is in {folder}", highlight=False, markup=False, soft_wrap=True)
