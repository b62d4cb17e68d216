"""Links of the pages lead somewhere, and what they tell people to run exists."""

import re
from pathlib import Path

import pytest

from rlchat.cli.main import VERBS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_targets_of_make_exist(page: Path) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = re.findall(r"`make ([a-z-]+)|^make ([a-z-]+)", page.read_text("utf-8"), re.M)
    assert {a or b for a, b in named} <= known


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "lab.md"], ids=name)
def test_verbs_exist(page: Path) -> None:
    known = {word for verb in VERBS for word in (verb, verb.split()[0])} | {"VERB"}
    named = re.findall(r"`rlchat ([a-zA-Z]+)", page.read_text("utf-8"))
    assert set(named) <= known


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120
