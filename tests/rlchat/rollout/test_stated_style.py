"""A stated style in ours and in others' environments: the same users, other instructions."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from rlchat.errors import UserError
from rlchat.inference.load_agent import load_agent
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.episodes import play_episodes
from rlchat.rollout.hosting.isolated import ProcessEnv
from rlchat.rollout.mixture import MixedEnv, Mixture
from rlchat.rollout.probe import probe
from rlchat_envs import Conversation, Message
from rlchat_reward_models.stated_style import AXES, SIDES
from rlchat_reward_models.stated_style.measures import WEIGHT
from rlchat_reward_models.stated_style.wording import REQUESTS

ANY = EnvConfig(stated_style=("any",))
FIRM = EnvConfig(stated_style=("brief", "formal", "advanced"))


@pytest.fixture(scope="module", autouse=True)
def text_envs() -> None:
    folder = str(Path(__file__).parents[1])
    sys.path.insert(0, folder)
    importlib.import_module("text_envs")
    sys.path.remove(folder)


def test_only_the_instructions_and_the_score_differ() -> None:
    styled, plain = TextEnv(FIRM, "dev"), TextEnv(EnvConfig(), "dev")
    for seed in range(3):
        opening, usual = styled.reset(seed), plain.reset(seed)
        assert opening[1:] == usual[1:]
        said = opening[0].content.removeprefix(usual[0].content + " ")
        for side in FIRM.stated_style:
            (found,) = (line for line in REQUESTS["dev"][side] if line in said)
            said = said.replace(found, "")
        assert not said.strip()
        reply = "Could you tell me your order number, please?"
        result, other = styled.step(reply), plain.step(reply)
        assert result.messages == other.messages == styled.conversation[len(opening) + 1 :]
        own = {name: result.parts[name] for name in result.parts if name not in other.parts}
        assert set(own) == {f"stated_{axis}" for axis in AXES}
        assert {n: v for n, v in result.parts.items() if n not in own} == other.parts
        assert styled.conversation[0] == opening[0]


def test_the_seed_alone_decides_the_style_and_its_words() -> None:
    first, again = TextEnv(ANY), TextEnv(ANY)
    told = [first.reset(seed)[0] for seed in range(8)]
    assert told == [again.reset(seed)[0] for seed in range(8)]
    assert len({ANY.style_of(seed) for seed in range(8)}) > 3
    for seed, message in enumerate(told):
        for side in SIDES:
            asked = any(line in message.content for line in REQUESTS["train"][side])
            assert asked == (side in ANY.style_of(seed))


def test_look_ups_go_on_beside_it() -> None:
    env = TextEnv(replace(FIRM, knowledge=("graph",)))
    usual = TextEnv(EnvConfig(knowledge=("graph",)))
    assert env.reset(0)[1:] == usual.reset(0)[1:]
    assert env.step("Order number?").messages == usual.step("Order number?").messages


@pytest.mark.parametrize("name", ["tests/AskFirst-v0", "tests/Calls-v0"])
def test_an_environment_of_others_gets_a_system_message(name: str) -> None:
    env = TextEnv(EnvConfig(name, stated_style=("brief",)))
    opening = env.reset(1)
    assert opening[0].role == "system" and opening[0].content in REQUESTS["train"]["brief"]
    assert opening[1:] == tuple(replace(m, tools=()) for m in TextEnv(EnvConfig(name)).reset(1))
    assert [tool.name for tool in env.tools] == (["right", "wrong"] if "Calls" in name else [])
    result = env.step("a")
    assert result.parts["stated_length"] == pytest.approx(-WEIGHT * 2 / 3)
    assert env.conversation == (*opening, Message("assistant", "a"), *result.messages)
    probe(env.config, RolloutConfig())


def test_it_travels_into_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = Path(__file__).parents[1].joinpath("text_envs.py").read_text("utf-8")
    (tmp_path / "styled_envs.py").write_text(code.replace("tests/", "styled/"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    config = EnvConfig("styled_envs:styled/Delayed-v0", stated_style=("any",))
    with ProcessEnv(config, "dev", 60.0) as there, TextEnv(config, "dev") as here:
        for seed in range(3):
            assert there.reset(seed) == here.reset(seed)
            assert there.step("a b c d") == here.step("a b c d")


def test_each_of_several_environments_states_it() -> None:
    envs = [replace(FIRM, env=f"rlchat/{name}-v0") for name in ("Support", "Medical")]
    env = MixedEnv(Mixture.of(envs), "train")
    for seed in range(4):
        first = env.reset(seed)[0]
        assert any(line in first.content for line in REQUESTS["train"]["formal"])
        assert "stated_tone" in env.step("May I ask your order number?").parts


def test_demonstrations_are_played_without_it_and_told_in_hindsight() -> None:
    plain = demonstrate(EnvConfig(), 30, 0)
    styled = demonstrate(FIRM, 30, 0)
    assert [c[1:] for c in styled] == [c[1:] for c in plain]
    length = {"brief": [], "detailed": []}  # type: ignore[var-annotated]
    for conversation, usual in zip(styled, plain, strict=True):
        said = conversation[0].content.removeprefix(usual[0].content)
        words = [len(m.content.split()) for m in usual if m.role == "assistant"]
        for side, found in length.items():
            if any(line in said for line in REQUESTS["train"][side]):
                found.append(fmean(words))
    assert min(map(len, length.values())) >= 8
    assert fmean(length["brief"]) + 2 < fmean(length["detailed"])


@pytest.mark.parametrize(
    ("names", "told"),
    [(("breif",), "expected stated styles .* did you mean brief"), (("any", "plain"), "alone")],
)
def test_a_style_that_is_none_is_refused(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        EnvConfig(stated_style=names)


class Guess:
    """Offers the usual thing before it knows anything."""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        return "You get a refund."


def test_ending_early_does_not_pay() -> None:
    """What following nothing costs a turn is less than what guessing loses."""
    config = EnvConfig(stated_style=("detailed", "friendly", "advanced"))
    with EnvPool(config, "dev") as pool:
        asks, guesses = (
            fmean(e.score for e in play_episodes(agent, pool, range(30), 0, 0.0, RolloutConfig()))
            for agent in (load_agent("expert"), load_agent(Guess()))
        )
    assert asks > guesses + 0.3
