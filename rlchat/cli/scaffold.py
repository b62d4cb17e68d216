"""A small scenario package of a user's own, which trains as it stands."""

from __future__ import annotations

import keyword
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from rlchat import files
from rlchat.errors import UserError

_MODULE = '''"""A scenario for rlchat; scenario.yaml says what happens in it."""

from pathlib import Path

from rlchat_envs import register
from rlchat_envs.consult import ConsultScenario

register("{id}", lambda: ConsultScenario(Path(__file__).with_name("scenario.yaml")))
'''


@dataclass(frozen=True)
class NewOptions:
    """Write a small working scenario, to be changed into your own."""

    name: Annotated[str, tyro.conf.Positional]
    """Name of the Python package: small letters, digits and underscores."""


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
    text = resources.files("rlchat_envs.consult").joinpath("template.yaml").read_text("utf-8")
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
