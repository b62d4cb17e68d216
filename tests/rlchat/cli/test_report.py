"""The verb `report`: where it writes, what it says, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlchat.cli.main import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder whose training has just begun."""
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "config.json").write_text('{"env": "rlchat/Support-v0"}')
    return folder


def test_it_writes_a_file_and_says_where(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}: 0.0 MB, 0 dialogues\n"
    assert (run / "report.html").read_text("utf-8").startswith("<!doctype html>")
    assert main(["report", str(run), str(run)]) == 0 and Path("report.html").is_file()
    assert main(["report", str(run), "--out", "new/page.html"]) == 0
    assert Path("new/page.html").is_file()


def test_it_opens_the_page(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert main(["report", str(run), "--open"]) == 0
    assert opened == [(run / "report.html").as_uri()]


def test_without_a_browser_it_says_so(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert main(["report", str(run), "--open"]) == 2
    assert "expected a browser for --open" in capsys.readouterr().err
    assert (run / "report.html").is_file()


@pytest.mark.parametrize(
    "words, said",
    [
        (["nowhere"], "there is no nowhere; name one that exists"),
        ([], "got none; name at least one"),
        (["RUN", "--out", "."], "expected an HTML file to write"),
        (["RUN/config.json", "--out", "RUN/config.json"], "expected an HTML file to write"),
        (["RUN/config.json"], "config.json is none; make one"),
        (["RUN", "--episodes", "-1"], "of at least 0"),
        (["RUN", "--evaluation-tokens", "-1"], "of at least 0"),
        (["RUN", "--evaluation-tokens", "1"], "expected a run"),
    ],
)
def test_a_mistake_is_a_sentence(
    run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "config.json").read_text()
    assert main(["report", *(w.replace("RUN", str(run)) for w in words)]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert (run / "config.json").read_text() == before
