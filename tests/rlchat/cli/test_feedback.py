"""Ratings change an agent, unless that does harm."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from rlchat.cli import feedback
from rlchat.cli.options import LearnOptions, RestoreOptions, VersionsOptions
from rlchat.errors import UserError
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.feedback.store import Store, StoredReply, store_path
from rlchat.models.adapter_io import adapter_hash
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import Interval
from rlchat.training import feedback_update
from rlchat.training.config import KtoConfig, TrainConfig
from rlchat.training.gate import GateDecision, decide
from rlchat.training.kto import Thumb, dataset, learn_thumbs
from rlchat.training.run_folder import RunFolder
from rlchat.training.versions import Versions
from rlchat_envs import Message

ADAPTER = AdapterConfig(rank=4, alpha=8, dtype="float32", device="cpu")
ASKED = (Message("user", "Where is it?"),)
THUMBS = [Thumb(ASKED, "bbb", True), Thumb(ASKED, "zzz", False)] * 4
LEARNING = KtoConfig(learning_rate=1e-2, epochs=8, batch=4)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    Policy.create("tiny", ADAPTER).save(made.adapter)
    return made


def logprob(adapter: Path, text: str) -> float:
    """Of a reply, in nats."""
    policy = Policy.create("tiny", ADAPTER, adapter)
    prompt, reply = policy.template.opening(ASKED), policy.template.reply(text)
    ids = torch.tensor([prompt + reply])
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits[0].float().log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(reply) - 1)
    return sum(float(logits[at, token]) for at, token in zip(places, reply, strict=True))


def test_what_is_liked_grows_likelier(run: RunFolder, tmp_path: Path) -> None:
    before = {text: logprob(run.adapter, text) for text in ("bbb", "zzz")}
    learn_thumbs(run.adapter, THUMBS, LEARNING, tmp_path / "new")
    after = {text: logprob(tmp_path / "new", text) for text in ("bbb", "zzz")}
    assert after["bbb"] > before["bbb"] + 0.5
    assert after["bbb"] - before["bbb"] > after["zzz"] - before["zzz"] + 0.5
    kept = load_file(run.adapter / "adapter_model.safetensors")
    new = load_file(tmp_path / "new" / "adapter_model.safetensors")
    assert kept.keys() == new.keys()


def test_prompts_meet_others_replies() -> None:
    policy = Policy.create("tiny", ADAPTER)
    thumbs = [Thumb(ASKED, text, True) for text in "abcde"]
    rows = dataset(thumbs, policy.template, 3)
    replies = [policy.template.reply(text) for text in "abcde"]
    assert rows["completion_ids"][:] == replies
    assert rows["KL_completion_ids"][:] == [replies[i] for i in (2, 0, 1, 4, 3)]
    assert rows["prompt_ids"][0] == policy.template.opening(ASKED)


def result(successes: Sequence[bool], cost: float = 0.0) -> EvaluationResult:
    episodes = [
        Trajectory(i, i, [], parts=[{"x": 1.0}], costs=[{"policy": cost}], success=s)
        for i, s in enumerate(successes)
    ]
    return EvaluationResult("agent", EnvConfig(), "dev", 0, 0.0, episodes)


HALF = [i % 2 == 0 for i in range(100)]


@pytest.mark.parametrize(
    ("after", "kl", "accepted", "words"),
    [
        (result(HALF), 0.01, True, "no fall beyond noise"),
        (result([True] * 100), 0.01, True, r"\+50.0%"),
        (result([*HALF[:98], False, False]), 0.01, True, "no fall beyond noise"),
        (result([False] * 100), 0.01, False, "fell beyond noise"),
        (result(HALF, 1.0), 0.01, False, "unsafe acts rose"),
        (result(HALF), 0.5, False, "KL 0.500 nats a token is beyond 0.1"),
        (result(HALF), float("nan"), False, "KL nan"),
    ],
)
def test_the_gate(after: EvaluationResult, kl: float, accepted: bool, words: str) -> None:
    import re

    verdict = decide(result(HALF), after, kl, 0.1)
    assert verdict.accepted == accepted
    assert re.search(words, verdict.reason), verdict.reason


def rate(
    run: RunFolder, count: int, env: str = EnvConfig.env, agent: str = "", version: str = "v"
) -> None:
    store_path().parent.mkdir(parents=True, exist_ok=True)
    with Store.open(store_path()) as store, store.writing():
        session = store.begin_session("ada", agent or str(run.folder), version, env, 1.0)
        for turn in range(count):
            context = [{"role": "user", "content": f"Where is it? {turn}"}]
            text = "bbb" if turn % 2 else "zzz"
            reply = store.add_reply(session, StoredReply(turn, context, text))
            store.rate(reply, "thumb", 1 if turn % 2 else -1)


def options(run: RunFolder, **more: object) -> LearnOptions:
    rollout = RolloutConfig(rows=4, max_new_tokens=4, max_tokens=128)
    return LearnOptions(run=run.folder, episodes=4, rollout=rollout, **more)  # type: ignore[arg-type]


def test_a_round_is_accepted_listed_and_taken_back(run: RunFolder) -> None:
    rate(run, 12)
    first = adapter_hash(run.adapter)
    console = Console(width=200, record=True)
    feedback.run_learn(options(run, max_kl=100.0, kto=LEARNING), console)
    second = adapter_hash(run.adapter)
    assert second != first
    assert [(v.number, v.accepted) for v in Versions(run).all()] == [(0, True), (1, True)]
    feedback.run_versions(VersionsOptions(run.folder), console)
    feedback.run_restore(RestoreOptions(run.folder, 0), console)
    assert adapter_hash(run.adapter) == first
    assert Versions(run).current == 0
    text = console.export_text()
    assert "Accepted as version 1" in text and "6 good and 6 bad thumbs" in text
    assert "1 *" in text
    assert "version.json" not in {path.name for path in run.adapter.iterdir()}


def test_a_round_that_does_harm_is_rolled_back(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate(run, 12)
    before = adapter_hash(run.adapter)
    nothing = Interval(0.0, 0.0, 0.0)
    harm = GateDecision(False, "held-out success fell beyond noise", nothing, nothing, 0.0)
    monkeypatch.setattr(feedback_update, "measure_update", lambda *_: harm)
    console = Console(width=200, record=True)
    feedback.run_learn(options(run, flip=True), console)
    assert adapter_hash(run.adapter) == before
    assert "Rolled back to version 0: held-out success fell" in console.export_text()
    assert [(v.number, v.accepted) for v in Versions(run).all()] == [(0, True), (1, False)]
    assert Versions(run).all()[1].origin == "6 good and 6 bad thumbs, flipped"


def test_far_is_far(run: RunFolder, tmp_path: Path) -> None:
    learn_thumbs(run.adapter, THUMBS, LEARNING, tmp_path / "new")
    world = EnvConfig()
    near = feedback_update.measure_kl(options(run), run.adapter, run.adapter, world)
    far = feedback_update.measure_kl(options(run), run.adapter, tmp_path / "new", world)
    assert near == 0.0 and far > 0.01


def test_what_is_refused(run: RunFolder, tmp_path: Path) -> None:
    console = Console(width=200)
    with pytest.raises(UserError, match="rate replies in rlchat chat first"):
        feedback.run_learn(options(run), console)
    rate(run, 4)
    with pytest.raises(UserError, match="at least 10 thumbs to learn from; there are 4"):
        feedback.run_learn(options(run), console)
    with pytest.raises(UserError, match="expected a run folder"):
        feedback.run_versions(VersionsOptions(tmp_path), console)
    with pytest.raises(UserError, match="expected a version out of none; got 3"):
        feedback.run_restore(RestoreOptions(run.folder, 3), console)
    with pytest.raises(UserError, match="expected --reward with --method ppo"):
        options(run, method="ppo")


MEDICAL = EnvConfig("rlchat/Medical-v0", ("terse",), knowledge=("bm25",))


@pytest.fixture
def trained_elsewhere(run: RunFolder) -> RunFolder:
    """A run whose record says that it was trained in another environment than the usual one."""
    config = TrainConfig(env=MEDICAL.env, users="terse", knowledge="bm25")
    run.write_config(config, {"dtype": "float32"})
    return run


@dataclass
class Seen:
    """What an update was learned from, and measured in."""

    thumbs: int = 0
    env: EnvConfig | None = None


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found, nothing = Seen(), Interval(0.0, 0.0, 0.0)

    def learn(
        adapter: Path, thumbs: Sequence[Thumb], config: object, out: Path, *_: object
    ) -> None:
        found.thumbs = len(thumbs)
        shutil.copytree(adapter, out)

    def measure(*words: object) -> GateDecision:
        assert isinstance(words[3], EnvConfig)
        found.env = words[3]
        return GateDecision(True, "no fall", nothing, nothing, 0.0)

    monkeypatch.setattr(feedback_update, "learn_thumbs", learn)
    monkeypatch.setattr(feedback_update, "measure_update", measure)
    return found


def test_a_run_is_judged_where_it_was_trained(trained_elsewhere: RunFolder, seen: Seen) -> None:
    rate(trained_elsewhere, 12, MEDICAL.env)
    feedback.run_learn(options(trained_elsewhere), Console(width=200))
    assert seen == Seen(12, MEDICAL)
    feedback.run_learn(options(trained_elsewhere, users="", knowledge=""), Console(width=200))
    assert seen.env == EnvConfig(MEDICAL.env)


def test_a_run_learns_only_from_thumbs_that_were_its_own(
    trained_elsewhere: RunFolder, seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, home = trained_elsewhere, MEDICAL.env
    rate(run, 1, home)
    rate(run, 2, home, agent=str(run.adapter))
    rate(run, 4, home, agent="moved/elsewhere", version=adapter_hash(run.adapter))
    rate(run, 8, "rlchat/Support-v0")
    rate(run, 16, home, agent="expert", version="expert")
    rate(run, 32, "", agent=str(run.folder))
    rate(run, 64, home, agent=str(tmp_path), version="another")
    feedback.run_learn(options(run, least=1), Console(width=200))
    assert seen.thumbs == 1 + 2 + 4
    feedback.run_learn(options(run, env="rlchat/Support-v0", least=1), Console(width=200))
    assert seen == Seen(8, EnvConfig("rlchat/Support-v0"))
    feedback.run_learn(options(run, all_thumbs=True), Console(width=200))
    assert seen.thumbs == 127
    with pytest.raises(
        UserError, match=r"there are 7 of .* in rlchat/Medical-v0, and 120 of other a"
    ):
        feedback.run_learn(options(run), Console(width=200))


def test_ppo_practises_where_the_run_was_trained(
    trained_elsewhere: RunFolder, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    envs = []

    def practise(config: TrainConfig, policy: Policy, run: RunFolder, *_: object) -> None:
        envs.append(config.env_config)
        policy.save(run.adapter)

    monkeypatch.setattr(feedback_update, "train", practise)
    learning = options(trained_elsewhere, method="ppo", reward=Path("reward"))
    feedback.run_learn(learning, Console(width=200))
    assert envs == [MEDICAL] and seen.env == MEDICAL


@pytest.mark.parametrize("flip", [False, True])
def test_flipped_thumbs_are_their_opposites(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, flip: bool
) -> None:
    given: list[Thumb] = []
    nothing = Interval(0.0, 0.0, 0.0)
    refused = GateDecision(False, "no", nothing, nothing, 0.0)

    def learn(adapter: Path, thumbs: list[Thumb], config: object, out: Path, *_: object) -> None:
        given.extend(thumbs)
        shutil.copytree(adapter, out)

    monkeypatch.setattr(feedback_update, "learn_thumbs", learn)
    monkeypatch.setattr(feedback_update, "measure_update", lambda *_: refused)
    rate(run, 10)
    feedback.run_learn(options(run, flip=flip), Console(width=200))
    assert {t.text: t.good for t in given} == {"bbb": not flip, "zzz": flip}
