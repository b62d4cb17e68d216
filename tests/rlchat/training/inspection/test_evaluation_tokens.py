"""The tokens of a run's evaluation, read again for its report."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlchat.cli.config_file import default_options
from rlchat.cli.main import main
from rlchat.errors import UserError
from rlchat.evaluation.report.sources import read_sources
from rlchat.listener import Listener
from rlchat.training.config import TrainConfig
from rlchat.training.inspection.evaluation_tokens import read_evaluation_tokens
from rlchat.training.inspection.opened_run import OpenedRun, open_run
from rlchat.training.run_folder import RunFolder


class Counting(Listener):
    def __init__(self) -> None:
        self.counted = 0

    def counter(self, what: str, total: int) -> Callable[[object], None]:
        assert total == 3

        def count(_: object) -> None:
            self.counted += 1

        return count


def opened(folder: Path) -> OpenedRun:
    return open_run(default_options(TrainConfig, "train", [folder]), RunFolder(folder))


def test_the_policy_reads_its_own_evaluation(finished_run: Path) -> None:
    (source,) = read_sources([finished_run])
    listener = Counting()
    read_evaluation_tokens(opened(finished_run), source, 3, listener)
    assert listener.counted == 3
    evaluated = [d for d in source.dialogues if d.played.iteration is None]
    told = [d for d in evaluated if d.tokens is not None]
    assert len(told) == 3 and {d.played.label for d in told} == {"PPO"}
    failed = [d.index for d in evaluated if d.played.label == "PPO" and d.failed]
    assert [d.index for d in told] == failed[:3]  # tiny solves nothing
    for dialogue in told:
        tokens = dialogue.tokens
        assert tokens is not None
        said = [text for role, text in dialogue.messages if role == "assistant"]
        for turn, text in enumerate(said):
            own = [w for w, t in zip(tokens["text"], tokens["turn"], strict=True) if t == turn]
            words = "".join(own)
            # Bytes that are no character are longer in text than they were: the turn is cut then.
            assert words.startswith(text) or text.startswith(words.rstrip("\ufffd"))
        for name in ("logprob", "reference", "value", "advantage"):
            assert len(tokens[name]) == len(tokens["turn"])
            assert all(math.isfinite(x) for x in tokens[name])
        best = [own[0][1] for own in tokens["alternatives"]]
        assert all(p <= b + 1e-3 for p, b in zip(tokens["logprob"], best, strict=True))
    spread = [x for d in told for x in (d.tokens or {})["advantage"]]
    assert sum(spread) / len(spread) == pytest.approx(0.0, abs=1e-3)  # whitened together


@pytest.mark.parametrize("estimator", ["rloo", "reinforce"])
def test_without_a_critic_others_are_compared_with(estimator: str, finished_run: Path) -> None:
    """Users of an evaluation share no start, so rloo's groups would hold strangers."""
    run = opened(finished_run)
    ppo = replace(run.config.ppo, estimator=estimator, group_size=2)  # type: ignore[arg-type]
    (source,) = read_sources([finished_run])
    read_evaluation_tokens(replace(run, config=replace(run.config, ppo=ppo)), source, 3, Counting())
    found = [d.tokens["advantage"] for d in source.dialogues if d.tokens and not d.played.iteration]
    assert len(found) >= 3


def test_thoughts_that_were_not_kept_are_not_made_up(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(finished_run)
    monkeypatch.setattr(run.policy.template, "setting", "on")
    (source,) = read_sources([finished_run])
    with pytest.raises(UserError, match="expected an agent that does not think"):
        read_evaluation_tokens(run, source, 3, Listener())


def test_the_report_shades_evaluations_if_asked(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "demo"))

    def shaded() -> int:
        html = (run / "report.html").read_text("utf-8")
        found = re.search(r"<script[^>]*json[^>]*>(.*?)</script>", html, re.S)
        assert found is not None
        data = json.loads(found[1])
        labels = [s["label"] for s in data["sets"]]
        return sum("tokens" in e and labels[e["set"]] == "PPO" for e in data["episodes"])

    assert main(["report", str(run)]) == 0 and shaded() == 0
    assert main(["report", str(run), "--evaluation-tokens", "2"]) == 0 and shaded() == 2
    alone = tmp_path / "evaluation.json"
    shutil.copy(run / "evaluation.json", alone)
    capsys.readouterr()
    assert main(["report", str(alone), "--evaluation-tokens", "2"]) == 2
    assert "expected a run folder for --evaluation-tokens" in capsys.readouterr().err
