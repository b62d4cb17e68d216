"""The games' data files."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import yaml


@cache
def load_data(name: str) -> dict[str, Any]:
    """Read one of the YAML files beside this one."""
    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text("utf-8")
    return dict(yaml.safe_load(text))
