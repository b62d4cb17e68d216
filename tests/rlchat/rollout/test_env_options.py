"""Whom an agent talks to if nobody says: those that its run was trained with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlchat.errors import UserError
from rlchat.rollout.env_options import (
    AgentEnvOptions,
    EnvOptions,
    MixedEnvOptions,
    run_environments,
)
from rlchat.rollout.environment import EnvConfig
from rlchat.training.config import TrainConfig

MEDICAL = EnvConfig("rlchat/Medical-v0", ("terse", "noisy"), knowledge=("bm25",))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder, as far as its record tells."""
    run = tmp_path / "run"
    for place in ("adapter", "warm-start", "versions/003"):
        (run / place).mkdir(parents=True)
    kept = {"env": MEDICAL.env, "users": "terse, noisy", "knowledge": "bm25", "resolved": {}}
    (run / "config.json").write_text(json.dumps(kept))
    return run


def test_a_run_s_own_is_the_default(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("", "adapter", "warm-start", "versions/003"):
        assert AgentEnvOptions().env_of(run / place) == MEDICAL
    monkeypatch.chdir(run)
    assert AgentEnvOptions().env_of("adapter") == AgentEnvOptions().env_of(".") == MEDICAL


def test_each_part_can_be_named_otherwise(run: Path) -> None:
    assert AgentEnvOptions(users="").env_of(run) == EnvConfig(MEDICAL.env, knowledge=("bm25",))
    assert AgentEnvOptions(knowledge="").env_of(run) == EnvConfig(MEDICAL.env, MEDICAL.users)
    assert AgentEnvOptions(env=MEDICAL.env).env_of(run) == MEDICAL


def test_another_environment_has_its_usual_users(run: Path) -> None:
    """Families are of every environment, but those of the run were chosen for its own."""
    other = "rlchat/Support-v0"
    assert AgentEnvOptions(env=other).env_of(run) == EnvConfig(other)
    assert AgentEnvOptions(env=other, users="terse").env_of(run) == EnvConfig(other, ("terse",))


@pytest.mark.parametrize("agent", ["expert", "base", "starter", "openai:x@http://y", "no/such"])
def test_who_has_no_run_talks_in_the_usual_environment(agent: str, tmp_path: Path) -> None:
    assert AgentEnvOptions().env_of(agent) == EnvOptions().env_config == EnvConfig()
    assert run_environments(agent) == ()


def test_a_plain_adapter_has_no_run(run: Path, tmp_path: Path) -> None:
    """A base model's config.json is none of a run's."""
    plain = tmp_path / "plain" / "adapter"
    plain.mkdir(parents=True)
    (plain.parent / "config.json").write_text('{"architectures": []}')
    (plain / "config.json").write_text("{")
    assert run_environments(plain) == run_environments(run.parent) == ()


def test_a_record_that_cannot_be_read_is_told_and_can_be_done_without(run: Path) -> None:
    (run / "config.json").write_text("{")
    (run / "versions.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"expected the record of a training in .*; or name --env|.*"
    ):
        AgentEnvOptions().env_of(run)
    named = AgentEnvOptions(env="rlchat/Support-v0", users="", knowledge="", stated_style="")
    assert named.env_of(run) == EnvConfig()


def test_a_run_in_several_environments_has_them_all(run: Path) -> None:
    """Where one is needed, it has to be named."""
    both = ("rlchat/Medical-v0", "rlchat/Support-v0")
    kept = {"env": ",".join(both), "users": "terse", "knowledge": "", "resolved": {}}
    (run / "config.json").write_text(json.dumps(kept))
    told = tuple(EnvConfig(env, ("terse",)) for env in both)
    assert AgentEnvOptions().envs_of(run) == told
    assert AgentEnvOptions(env=both[1]).envs_of(run) == told[1:]
    assert AgentEnvOptions(env=both[1]).env_of(run) == told[1]
    with pytest.raises(UserError, match=r"expected one environment; got .* name one with --env"):
        AgentEnvOptions().env_of(run)
    options = MixedEnvOptions(env=" , ".join(both), users="terse", env_weights="2,1")
    assert (options.mixture.envs, options.mixture.weights) == (told, (2.0, 1.0))


def test_the_budget_of_users_spoken_by_models_is_the_run_s(run: Path) -> None:
    kept = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(kept | {"user_max_new_tokens": 900}))
    assert AgentEnvOptions().env_of(run).user_max_new_tokens == 900
    assert AgentEnvOptions(user_max_new_tokens=70).env_of(run).user_max_new_tokens == 70
    other = AgentEnvOptions(env="rlchat/Support-v0").env_of(run)
    assert other.user_max_new_tokens == EnvOptions().user_max_new_tokens == 60
    assert EnvOptions(user_max_new_tokens=900).env_config.user_max_new_tokens == 900
    assert TrainConfig(user_max_new_tokens=900).env_config == EnvConfig(user_max_new_tokens=900)
    with pytest.raises(UserError, match="user_max_new_tokens of at least 1"):
        EnvConfig(user_max_new_tokens=0)


def test_a_stated_style_is_the_run_s_and_can_be_named_otherwise(run: Path) -> None:
    kept = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(kept | {"stated_style": "any"}))
    assert AgentEnvOptions().env_of(run).stated_style == ("any",)
    assert AgentEnvOptions(stated_style="brief, formal").env_of(run).stated_style == (
        "brief",
        "formal",
    )
    assert AgentEnvOptions(stated_style="").env_of(run) == MEDICAL
    assert AgentEnvOptions(env="rlchat/Support-v0").env_of(run) == EnvConfig()
    with pytest.raises(UserError, match="did you mean formal"):
        _ = EnvOptions(stated_style="formall").env_config
