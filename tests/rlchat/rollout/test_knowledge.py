"""Look-ups by their names on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rlchat.errors import UserError
from rlchat.rollout.knowledge import make_lookup


def test_turtle_without_its_package_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "facts.ttl"
    file.write_text("<urn:x:Rain> <urn:x:falls_in> <urn:x:autumn> .\n", "utf-8")
    make_lookup(f"graph:{file}")
    monkeypatch.setitem(sys.modules, "rdflib", None)
    with pytest.raises(UserError, match=r"expected the package rdflib.*'rlchat\[turtle\]'$"):
        make_lookup(f"graph:{file}")
