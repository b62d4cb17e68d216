"""A report's data: what is read, chosen and told, without a browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult, evaluate
from rlchat.evaluation.report.dialogues import Dialogue, Played
from rlchat.evaluation.report.elements import thinned
from rlchat.evaluation.report.endings import _failed
from rlchat.evaluation.report.goals import grouping_facts, tell_goals
from rlchat.evaluation.report.page import LARGEST, Page, report, sections_of
from rlchat.evaluation.report.selection import as_data, chosen
from rlchat.evaluation.report.sources import evaluated, names_of, read_sources
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.trajectory import Ending, Episode
from tests.rlchat.evaluation.conftest import HARM, MakeRun

WITHOUT_SCORE = json.dumps(
    EvaluationResult(
        "a", EnvConfig(), "dev", 0, 0.0, [Episode(0, 0, parts=[{"a": 1}], success=True)]
    ).to_json()
).replace('{"a": 1}', '{"a": "x"}')


class Elements(HTMLParser):
    """The elements of a page, and what stands in its scripts."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.scripts[-1] += data


def data_of(page: Page) -> Any:
    return json.loads(Elements(page.encoded.decode()).scripts[0])


def dialogue(index: int, played: Played, success: bool | None, words: str = "Hello.") -> Dialogue:
    return Dialogue(played, index, index, [("user", words)], [{"a": 1.0}], [], success, "goal")


def played(label: str = "PPO", iteration: int | None = None) -> Played:
    return Played("run", label, "rlchat/Support-v0", (), "dev", iteration)


def test_a_page_loads_nothing_and_has_only_its_own_scripts(
    make_run: MakeRun, tmp_path: Path
) -> None:
    page = report([make_run()], tmp_path / "report.html")
    elements = Elements(page.html)
    assert [a.get("type") for tag, a in elements.found if tag == "script"] == [
        "application/json",
        None,
    ]
    assert not [a for _, a in elements.found if {"src", "srcset", "style", "onerror"} & set(a)]
    links = [a["href"] for _, a in elements.found if a.get("href")]
    assert links and all(str(link).startswith("#") for link in links)
    assert not {"img", "iframe", "object", "link", "base"} & {tag for tag, _ in elements.found}
    (policy,) = (str(a["content"]) for _, a in elements.found if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    ids = [a["id"] for _, a in elements.found if "id" in a]
    assert len(ids) == len(set(ids))
    assert (tmp_path / "report.html").read_bytes() == page.encoded


def test_text_that_means_harm_is_told_as_it_is(make_run: MakeRun) -> None:
    page = Page(read_sources([make_run()]), 1000)
    told = " ".join(text for e in data_of(page)["episodes"] for _, text in e["messages"])
    for harm in HARM:
        assert harm.replace("\ud83d", "?") in told
    assert "</script><script>" not in page.html


def test_every_section_is_there(make_run: MakeRun) -> None:
    sections = sections_of(read_sources([make_run()]))
    assert [s.name for s in sections] == [
        *("results", "learning", "components", "health", "monitor", "endings", "failures")
    ]
    results, learning, components, health, monitor, endings, _ = sections
    assert [row[0] for row in results.tables[0].rows] == ["warm start", "PPO"]
    assert results.tables[1].rows[0][0] == "PPO minus warm start"
    success = learning.figures[0].table
    assert success.rows == [["0", "20% (7% … 59%)"], ["2", "40% (14% … 69%)"]]
    assert components.figures[0].table.head == ["iteration", "progress", "courtesy"]
    entropy = next(f for f in health.figures if f.title.startswith("Entropy"))
    assert [row[0] for row in entropy.table.rows] == ["0", "1"]  # of the third it is NaN
    assert monitor.notes[0].startswith("run: alarm in iteration 2")
    assert [f.title for f in endings.figures] == [
        *("How dialogues end, run", "In which turn dialogues end, run")
    ]
    for section in sections:
        for figure in section.figures:
            assert "style=" not in figure.svg and "<metadata" not in figure.svg
            assert re.search(r'role="img"', figure.svg) and figure.table.rows


def result(agent: str, outcomes: list[bool], trials: int = 1) -> EvaluationResult:
    """An evaluation with these successes, so many of each user in a row."""
    episodes = [
        Episode(i, i // trials, parts=[{"a": 1.0}], success=success)
        for i, success in enumerate(outcomes)
    ]
    return EvaluationResult(agent, EnvConfig(), "dev", 0, 0.0, episodes, None, trials)


def written(place: Path, *results: EvaluationResult) -> Path:
    place.write_text(json.dumps([r.to_json() for r in results]), "utf-8")
    return place


def test_differences_have_p_values_that_hold_together(tmp_path: Path) -> None:
    """Six gained, none lost: 1/64 by McNemar's mid-p; eight: 1/256, twice which holds for both."""
    none = result("base", [False] * 20)
    six, eight = (result(f"of {n}", [i < n for i in range(20)]) for n in (6, 8))
    one = sections_of(read_sources([written(tmp_path / "a.json", none, six)]))[0]
    assert one.tables[1].head[-1] == "p" and one.tables[1].rows[0][-1] == "0.016"
    assert "Holm" not in one.about
    both = sections_of(read_sources([written(tmp_path / "b.json", none, six, eight)]))[0]
    assert list(both.tables[1].head[-2:]) == ["p", "p, Holm"]
    assert [list(row[-2:]) for row in both.tables[1].rows] == [
        ["0.016", "0.016"],
        ["0.0039", "0.0078"],
    ]
    assert "all 2 comparisons" in both.about
    again = sections_of(read_sources([written(tmp_path / "c.json", none), tmp_path / "b.json"]))[0]
    assert [row[-1] for row in again.tables[1].rows] == ["1", "0.031", "0.012"]


def test_failures_of_one_user_count_once() -> None:
    """Ten users, four episodes each, all alike: the interval is of 10, not of 40."""
    alone, together = (
        [
            Dialogue(played(), i, i // trials, [], [], [], i // trials % 2 == 0, "goal")
            for i in range(10 * trials)
        ]
        for trials in (1, 4)
    )
    assert _failed(alone) == "50% (24% … 76%), 5 of 10"
    assert _failed(together) == "50% (24% … 76%), 20 of 40, 10 users"
    mixed = [Dialogue(played(), i, i // 4, [], [], [], i % 2 == 0, "goal") for i in range(40)]
    # All users are alike, half of each: narrower, but for what was not seen.
    assert _failed(mixed) == "50% (38% … 62%), 20 of 40, 10 users"


def test_failures_are_grouped_by_what_was_asked_for(make_run: MakeRun) -> None:
    sources = read_sources([make_run()])
    tell_goals(sources[0].dialogues)
    facts = grouping_facts(sources[0].dialogues)
    assert "intent" in facts
    assert not {"order", "verdict", "description"} & set(facts)  # too many values, and one alone
    failures = sections_of(sources)[-1]
    for table in failures.tables:
        fact = table.head[0]
        for row, (name, value) in zip(table.rows, table.filters, strict=True):
            assert name == fact and row[0] == value
            own = [d for d in sources[0].dialogues if d.played.label == "PPO"]
            same = [d for d in own if d.facts[fact] == value]
            if same:
                assert row[2].endswith(f", {sum(d.failed for d in same)} of {len(same)}")


def test_a_goal_is_told_only_where_the_episode_begins_as_it_did(make_run: MakeRun) -> None:
    (source,) = read_sources([make_run()])
    one, other, *_ = source.dialogues
    other.messages[1] = ("user", "Something else.")
    one.played = Played("run", "PPO", "tests/Nowhere-v0", (), "dev")
    tell_goals(source.dialogues)
    assert [bool(d.facts) for d in source.dialogues[:3]] == [False, False, True]


def test_two_runs_stand_side_by_side(make_run: MakeRun) -> None:
    places = [make_run("a"), make_run("b", 0.2, "expert")]
    page = Page(read_sources(places), 1000)
    data = data_of(page)
    goals = {run: set() for run in ("a", "b")}  # type: ignore[var-annotated]
    for e in data["episodes"]:
        goals[data["sets"][e["set"]]["run"]].add(e["goal"])
    assert goals["a"] == goals["b"]
    differences = sections_of(read_sources(places))[0].tables[1].rows
    assert [row[0] for row in differences] == [
        "PPO, a minus warm start, a",
        "warm start, b minus warm start, a",
        "PPO, b minus warm start, a",
    ]


def test_several_environments_make_a_heat_map(tmp_path: Path) -> None:
    answers = []
    for users in ("agenda", "terse"):
        results = [
            evaluate(ScenarioAgent(a), EnvConfig(users=(users,)), EvalConfig("dev", 4)).to_json()
            for a in ("expert", "random")
        ]
        answers.append({**results[0], "against": results[1]})
    (tmp_path / "eval.json").write_text(json.dumps({"environments": answers}))
    sections = sections_of(read_sources([tmp_path / "eval.json"]))
    assert [s.name for s in sections] == ["results", "matrix", "endings", "failures"]
    (figure,) = sections[1].figures
    assert [row[0] for row in figure.table.rows] == ["expert", "random"]
    assert figure.table.rows[0][1].startswith("100% (51%") and "f-l8" in figure.svg


def test_a_folder_of_cells_is_an_evaluation(tmp_path: Path) -> None:
    """Cells whose settings stand apart; and nothing twice that a file holds twice."""
    expert, random = (
        evaluate(ScenarioAgent(a), EnvConfig(users=("terse",)), EvalConfig("dev", 4)).to_json()
        for a in ("expert", "random")
    )
    env = {"env": expert["env"], "users": ["terse"], "knowledge": [], "gamma": 1.0}
    config = {"split": "dev", "seed": 0, "temperature": 0.0, "episodes": 4}
    about = {"agent": "expert", "env": env, "config": config, "version": "1"}
    cells = tmp_path / "cells"
    cells.mkdir()
    kept = {"about": about, "per_episode": expert["per_episode"]}
    (cells / "a.json").write_text(json.dumps(kept))
    (cells / "b.json").write_text(json.dumps({**random, "against": expert, "agents": [random]}))
    (cells / "c.json").write_text('{"about": ')
    (source,) = read_sources([cells])
    assert [r.agent for r in source.results] == ["expert", "random"]
    assert source.results[0].env == EnvConfig(users=("terse",))
    assert source.notes == ["c.json cannot be read and is left out."]
    assert len(source.dialogues) == 8


def test_names_that_are_no_text_make_a_heat_map_too(tmp_path: Path) -> None:
    """Labels of figures are markup and mathematics to nobody; XML knows no \x00."""
    answers = [
        {**evaluate(ScenarioAgent("expert"), EnvConfig(users=(u,)), EvalConfig("dev", 2)).to_json()}
        for u in ("agenda", "terse")
    ]
    for answer in answers:
        answer["agent"] = "\x00<b>$x^2$ \ud83d 🙂 שלום" + "long" * 20
    (tmp_path / "eval.json").write_text(json.dumps(answers))
    (_, matrix, *_) = sections_of(read_sources([tmp_path / "eval.json"]))
    assert "�&lt;b&gt;" in matrix.figures[0].svg and "$x^2$" in matrix.figures[0].svg


def test_long_runs_have_short_tables() -> None:
    rows = [[str(i)] for i in range(1001)]
    shown = [int(row[0]) for row in thinned(rows)]
    assert len(shown) <= 200 and shown[-1] == 1000
    assert len({b - a for a, b in pairwise(shown)}) == 1
    assert thinned(rows[:200]) == rows[:200]


def test_an_environment_of_others_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a file says: a report reads, and runs nothing."""
    (tmp_path / "harm.py").write_text("raise SystemExit('harmed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    one = dialogue(0, Played("run", "PPO", "harm:Harm-v0", (), "dev"), False)
    other = dialogue(0, Played("run", "PPO", "rlchat/Support-v0", ("llm:base",), "dev"), False)
    tell_goals([one, other])
    assert not one.facts and not other.facts


@pytest.mark.parametrize("style", [(), ("brief", "formal"), ("any",)])
def test_what_was_asked_for_is_told_of_styled_dialogues_too(style: tuple[str, ...]) -> None:
    played = Played("run", "PPO", "rlchat/Support-v0", (), "dev")
    with TextEnv(EnvConfig(stated_style=style), "dev") as env:
        opening = [(m.role, m.content) for m in env.reset(5)]
    one = replace(dialogue(0, played, False), seed=5, messages=opening)
    other = replace(one, messages=[("system", "You sell fish."), *opening[1:]])
    tell_goals([one, other])
    assert one.facts["intent"] and not other.facts


def test_styles_of_one_agent_are_apart() -> None:
    results = [
        EvaluationResult("PPO", EnvConfig(stated_style=style), "dev", 0, 0.0, [Episode(0, 0)])
        for style in ((), ("brief",))
    ]
    labels = [d.played.label for d in evaluated("run", results)]
    assert labels == ["PPO, style none", "PPO, style brief"]
    assert [d.played.label for d in evaluated("run", results[1:])] == ["PPO"]


def test_a_half_written_run_is_a_page(tmp_path: Path, make_run: MakeRun) -> None:
    folder = make_run()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "succ')
    with (folder / "transcripts" / "0002.jsonl").open("a") as file:
        file.write('{"index": 8, "messa')
    (folder / "transcripts" / "0001.jsonl").write_text('{"index": 1}\n[]\n')
    (folder / "tokens" / "0000.jsonl").write_text('{"index": 0, "turn": [0], "text": "x"}\n')
    (folder / "evaluation.json").write_text('{"results": [')
    (source,) = read_sources([folder])
    assert len(source.rows) == 3 and not source.results
    assert source.notes == [
        "The end of its metrics cannot be read and is left out.",
        "2 of 3 files of transcripts are only partly readable.",
        "evaluation.json cannot be read and is left out.",
    ]
    assert data_of(Page([source], 1000))["episodes"]
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text('{"env": "rlchat/Support-v0"}')
    (source,) = read_sources([bare])
    assert source.notes == ["No iteration of it is finished yet."]
    assert data_of(Page([source], 1000)) == {"sets": [], "episodes": []}


@pytest.mark.parametrize(
    "name, text, match",
    [
        ("nothing", None, "there is no .*nothing; name one"),
        ("eval.json", "{", "eval.json is none; make one"),
        ("eval.json", "[]", "eval.json is none; make one"),
        ("eval.json", '{"per_episode": 3}', "eval.json is none; make one"),
        ("eval.json", '{"per_episode": [{}]}', "eval.json is none; make one"),
        ("eval.json", WITHOUT_SCORE, "eval.json is none; make one"),
        ("run/x", "", "run is none; make one"),
        ("run/x.json", "[]", "run is none; make one"),
        ("run/config.json", "[1]", "run cannot be read"),
    ],
)
def test_what_is_no_run_gets_a_sentence(
    tmp_path: Path, name: str, text: str | None, match: str
) -> None:
    place = tmp_path / name
    if text is not None:
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    with pytest.raises(UserError, match=match):
        read_sources([place.parent if "/" in name else place])


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    a, b = tmp_path / "a" / "run", tmp_path / "b" / "run"
    assert names_of([a]) == ["run"]
    assert names_of([a, b]) == ["a/run", "b/run"]
    assert names_of([a, a]) == ["run", "run (2)"]


def test_failures_come_first_evenly_and_with_their_pairs() -> None:
    one, two = played("iteration 0", 0), played("iteration 1", 1)
    dialogues = [dialogue(i, p, i % 4 > 0) for p in (one, two) for i in range(8)]
    dialogues = [
        Dialogue(
            d.played, d.index, d.seed + 100 * (d.played is two), d.messages, [], [], d.success, ""
        )
        for d in dialogues
    ]
    some = chosen(dialogues, 4, 10**6)
    assert [(d.played.label, d.index) for d in some] == [
        *(("iteration 0", 0), ("iteration 0", 4), ("iteration 1", 0), ("iteration 1", 4))
    ]
    assert len(chosen(dialogues, 5, 10**6)) == 5 and len(chosen(dialogues, 99, 10**6)) == 16
    before, after = played("warm start"), played("PPO")
    pairs = [dialogue(i, p, p is after and i != 2) for p in (before, after) for i in range(4)]
    together = chosen(pairs, 5, 10**6)
    assert [d.index for d in together] == [0, 1, 0, 1]


def test_a_page_stays_small(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlchat.evaluation.report.page.LARGEST", 260_000)
    (source,) = read_sources([make_run()])
    page = Page([source], 1000)
    assert 0 < page.episodes < len(source.dialogues) and page.size <= 260_000
    assert page.left_out == len(source.dialogues) - page.episodes
    assert f"{page.left_out} more were left out" in page.html
    assert LARGEST == 5_000_000


def test_an_evaluation_knows_how_its_episodes_ended() -> None:
    result = evaluate(ScenarioAgent("random"), EnvConfig(), EvalConfig("dev", 8))
    again = EvaluationResult.from_json(result.to_json())
    assert [e.ending for e in again.episodes] == [e.ending for e in result.episodes]
    kept = result.to_json()
    for e, ending in zip(kept["per_episode"], Ending, strict=False):
        e["ending"], e["success"] = ending, ending == Ending.GOAL
    endings = [e.ending for e in EvaluationResult.from_json(kept).episodes]
    assert endings[: len(Ending)] == list(Ending)
    del kept["per_episode"][0]["ending"]  # as files of earlier versions
    assert EvaluationResult.from_json(kept).episodes[0].ending is None


def test_data_ends_no_element() -> None:
    text = as_data([dialogue(0, played(), None, "</SCRIPT><!--&\u2028\u2029")])
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text)["episodes"][0]["messages"] == [["user", "</SCRIPT><!--&\u2028\u2029"]]
