"""A new scenario works as it is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rlchat.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_new_scenario_is_written_and_played(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["envs", "new", "garden_desk"]) == 0
    assert "rlchat train --env garden_desk:GardenDesk-v0" in capsys.readouterr().out
    assert {p.name for p in (here / "garden_desk").iterdir()} == {"__init__.py", "scenario.yaml"}
    words = ["eval", "expert", "--env", "garden_desk:GardenDesk-v0", "--episodes", "40"]
    assert main(words) == 0
    assert "expert" in capsys.readouterr().out
    del sys.modules["garden_desk"]


def test_a_mistake_in_it_is_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs", "new", "fault"]) == 0
    place = here / "fault" / "scenario.yaml"
    place.write_text(place.read_text("utf-8").replace("offer: brighter", "offer: bright"), "utf-8")
    assert main(["eval", "expert", "--env", "fault:Fault-v0"]) == 2
    error = capsys.readouterr().err
    assert "scenario.yaml, line 86, problems.yellow.rules[1].offer" in error
    assert "did you mean brighter?" in error
    del sys.modules["fault"]


@pytest.mark.parametrize("name", ["Big", "two words", "class", "9lives", "a-b", ""])
def test_a_name_that_is_no_package_s_is_refused(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["envs", "new", name]) == 2
    assert "expected a name of small letters" in capsys.readouterr().err
    assert not list(here.iterdir())


def test_nothing_is_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "taken").mkdir()
    assert main(["envs", "new", "taken"]) == 2
    assert "expected a new name; taken exists" in capsys.readouterr().err
