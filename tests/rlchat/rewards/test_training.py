"""The verbs `reward build|train|score|report`, from words to what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlchat.cli.main import main
from rlchat.feedback.store import Store, StoredReply, store_path
from rlchat.rewards.training import _some
from rlchat_envs import Message
from rlchat_reward_models.preferences import Preference, read_preferences


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kind words are better than curt ones, in many dialogues."""
    path = tmp_path_factory.mktemp("data") / "preferences.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Where is parcel {i}?"}],
            "chosen": said("Thank you, gladly."),
            "rejected": said("zzz zz z"),
            "weight": 0.9,
            "source": "simulator",
            "dialogue": f"d{i}",
            "difference": 1.0,
            "error": 0.1,
        }
        for i in range(120)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def model(preferences: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "reward"
    words = ["reward", "train", str(preferences), "--backbone", str(tiny_encoder), "--heads", "2"]
    words += ["--training.epochs", "6", "--training.learning-rate", "0.003", "--dtype", "float32"]
    assert main([*words, "--device", "cpu", "--out", str(out)]) == 0
    return out


def test_what_is_built_is_what_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "built.jsonl"
    few = ["--branches.dialogues", "20", "--branches.continuations", "2"]
    assert main(["reward", "build", "--out", str(out), *few]) == 0
    built = read_preferences(out)
    assert built and all(p.source == "simulator" and p.difference is not None for p in built)
    printed = capsys.readouterr().out
    assert "left out:" in printed and "clear" in printed
    again = tmp_path / "again.jsonl"
    assert main(["reward", "build", "--out", str(again), *few]) == 0
    assert again.read_bytes() == out.read_bytes()


def test_replies_after_look_ups_are_compared(tmp_path: Path) -> None:
    out = tmp_path / "built.jsonl"
    words = ["--env", "rlchat/FinanceFacts-v0", "--knowledge", "bm25", "--out", str(out)]
    few = ["--branches.dialogues", "20", "--branches.continuations", "2"]
    assert main(["reward", "build", *words, *few]) == 0
    built = read_preferences(out)
    assert built and any(m.role == "tool" for p in built for m in p.prompt)


def test_files_and_people_are_sources_too(tmp_path: Path, preferences: Path) -> None:
    store_path().parent.mkdir(parents=True, exist_ok=True)
    with Store.open(store_path()) as store:
        session = store.begin_session("ada", "base", "v", "", 1.0)
        context = [{"role": "user", "content": "Hi"}]
        number = store.add_reply(session, StoredReply(0, context, "What?"))
        store.rate(number, "edit", -1, "Hello!")
    out = tmp_path / "built.jsonl"
    words = ["--no-simulate", "--people", "--file", str(preferences), "--out", str(out)]
    assert main(["reward", "build", *words]) == 0
    sources = [p.source for p in read_preferences(out)]
    assert sources.count("person:ada") == 1 and sources.count("simulator") == 120


def test_it_is_reported(
    model: Path, preferences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers, plot = tmp_path / "report.json", tmp_path / "plot.png"
    words = [str(model), str(preferences), "--json", str(numbers), "--plot", str(plot)]
    assert main(["reward", "report", *words]) == 0
    (row,) = json.loads(numbers.read_text("utf-8"))
    assert row["clear_accuracy"] == 1.0 and row["clear_share"] == 1.0
    assert 10 < row["preferences"] < 50  # of held-out dialogues alone
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "accuracy" in capsys.readouterr().out


def test_the_largest_errors_are_shown_whole(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of conversations every message, as what decides is seldom the first."""
    curt = [*said("zzz zz z"), {"role": "user", "content": "Pity."}, *said("zz zzzz")]
    kind = [*said("Thank you."), {"role": "user", "content": "Fine."}, *said("Gladly.")]
    row = {"prompt": [{"role": "user", "content": "Hello?"}], "chosen": curt, "rejected": kind}
    path = tmp_path / "wrong.jsonl"
    path.write_text(json.dumps(row) + "\n", "utf-8")
    assert main(["reward", "report", str(model), str(path), "--all"]) == 0
    printed = capsys.readouterr().out.partition("prefers the wrong one")[2]
    assert [line.strip() for line in printed.splitlines() if line.startswith("  ")] == [
        "… user: Hello?",
        "+ assistant: zzz zz z",
        "+ user: Pity.",
        "+ assistant: zz zzzz",
        "- assistant: Thank you.",
        "- user: Fine.",
        "- assistant: Gladly.",
    ]


def test_replies_are_scored(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"role": "user", "content": "Where is parcel 3?"}
    rows = [{"messages": [asked, *said(text)]} for text in ("Thank you, gladly.", "zzz zz z")]
    data, out = tmp_path / "talk.jsonl", tmp_path / "scored.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert main(["reward", "score", str(model), str(data), "--out", str(out)]) == 0
    kind, curt = (json.loads(line) for line in out.read_text("utf-8").splitlines())
    assert kind["scores"][0] > curt["scores"][0]
    assert main(["reward", "score", str(model), str(data)]) == 0
    assert f"{kind['scores'][0]:+.2f}  assistant: Thank you, gladly." in capsys.readouterr().out


def test_whole_conversations_are_scored_as_such(
    tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built, out = tmp_path / "built.jsonl", tmp_path / "reward"
    few = ["--branches.whole", "--branches.dialogues", "40", "--branches.replies", "3"]
    assert main(["reward", "build", "--out", str(built), *few]) == 0
    found = read_preferences(built)
    assert {p.source for p in found} == {"conversations"}
    words = ["--backbone", str(tiny_encoder), "--heads", "2"]
    words += ["--dtype", "float32", "--device", "cpu"]
    assert main(["reward", "train", str(built), *words, "--out", str(out)]) == 0
    data, scored = tmp_path / "talk.jsonl", tmp_path / "scored.jsonl"
    messages = [
        {"role": m.role, "content": m.content} for m in (*found[0].prompt, *found[0].chosen)
    ]
    data.write_text(json.dumps({"messages": messages}) + "\n", "utf-8")
    assert main(["reward", "score", str(out), str(data), "--out", str(scored)]) == 0
    (score,) = json.loads(scored.read_text("utf-8"))["scores"]
    capsys.readouterr()
    assert main(["reward", "score", str(out), str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (lead,) = [line for line in lines if line[:1] in "+-" and line]
    last = [m.content for m in found[0].chosen if m.role == "assistant"][-1]
    assert lead.startswith(f"{score:+.2f}  assistant: {last}"[:60])


def test_contexts_of_consequence_are_drawn_before_others() -> None:
    said = tuple((Message("assistant", text),) for text in ("yes", "no"))
    many = [
        Preference((), *said, weight=1.0 if i < 10 else 0.01, dialogue=f"d{i // 2}")
        for i in range(200)
    ]
    drawn = _some(many, 10, 0)
    assert len({p.dialogue for p in drawn}) == 10
    assert len(drawn) == 20  # each with all its comparisons
    assert {f"d{i}" for i in range(5)} <= {p.dialogue for p in drawn}
    assert _some(many, 100, 0) == many


WRONG = {
    "expected a source of preferences": ["build", "--no-simulate"],
    "expected no follower": ["build", "--branches.whole", "--follower", "expert"],
    "expected a readable UTF-8 file of preferences": ["train", "nowhere.jsonl", "--out", "x"],
    "expected a reward model that": ["report", "nowhere", "nowhere.jsonl"],
}


@pytest.mark.parametrize("words", WRONG)
def test_mistakes_are_one_sentence(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reward", *WRONG[words]]) == 2
    complaint = capsys.readouterr().err
    assert words in complaint and "Traceback" not in complaint
    assert not list(tmp_path.iterdir())


def test_too_few_dialogues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text('{"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}\n', "utf-8")
    assert main(["reward", "train", str(path), "--out", str(tmp_path / "x")]) == 2
    assert "from enough dialogues" in capsys.readouterr().err


def test_more_tokens_than_positions_are_told_before_training(
    preferences: Path, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--backbone", str(tiny_encoder), "--device", "cpu", "--max-tokens", "513"]
    out = tmp_path / "x"
    assert main(["reward", "train", str(preferences), *words, "--out", str(out)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "expected --max-tokens of at most 512, as" in told and "got 513; lower it" in told
    assert not out.exists()
