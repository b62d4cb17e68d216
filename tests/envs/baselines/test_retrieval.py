"""The retrieval agent: what a demonstrator said where things stood much the same."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlchat_envs import DialogueEnv, Message, Scenario
from rlchat_envs.baselines.retrieval import (
    Memory,
    RetrievalAgent,
    context,
    remember,
    successful_turns,
)
from rlchat_envs.consultation import ConsultScenario
from rlchat_envs.scenarios.support import SupportScenario

SUPPORT = SupportScenario()


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> ConsultScenario:
    place = tmp_path_factory.mktemp("consult") / "scenario.yaml"
    template = resources.files("rlchat_envs.consultation").joinpath("template.yaml")
    place.write_text(template.read_text("utf-8"), "utf-8")
    return ConsultScenario(place)


def success(scenario: Scenario, split: str, episodes: int = 100) -> float:
    env, solved = DialogueEnv(scenario, split), []
    for seed in range(episodes):
        _, info = env.reset(seed=seed)
        agent: Any = RetrievalAgent(scenario, seed)
        over = False
        while not over:
            *_, terminated, truncated, info = env.step(agent.reply(info["conversation"], {}))
            over = terminated or truncated
        solved.append(info["success"])
    return float(np.mean(solved))


def user(text: str) -> Message:
    return Message("user", text)


def test_a_context_by_hand() -> None:
    talk = (
        Message("system", "Be kind."),
        user("My lamp is broken."),
        Message("assistant", "Order number?"),
        user("B4821."),
        Message("tool", "Status: lost."),
    )
    assert context(talk[:2]) == "turn0 My lamp is broken."
    assert context(talk) == "turn1 My lamp is broken. B4821. Status: lost."
    long = (*talk, *(Message("assistant", "Hm."), user("Well?")) * 5)
    assert context(long).startswith("turn3 ")


def test_the_nearest_context_decides() -> None:
    memory = Memory(
        [
            ((user("My lamp arrived broken."),), "What is the fault?"),
            ((user("Where is my parcel with the kettle?"),), "Postcode?"),
            ((user("Where is my parcel?"),), "Which postcode is it going to?"),
        ]
    )
    assert memory.recall((user("The chair was broken when it arrived."),)) == "What is the fault?"
    parcel = (user("Where is that kettle parcel?"),)
    assert memory.recall(parcel) == "Postcode?"
    said = (*parcel, Message("assistant", "Postcode?"), user("Why, where is the parcel?"))
    assert memory.recall(said) == "Which postcode is it going to?"  # nothing twice


def test_where_nothing_is_alike_something_is_said() -> None:
    memory = Memory([((user("My lamp arrived broken."),), "What is the fault?")])
    for text in ("", "你好", "\x00", "zzz"):
        assert memory.recall((user(text),)) == "What is the fault?"


def test_only_what_succeeded_is_remembered() -> None:
    env = DialogueEnv(SUPPORT, "train")
    turns = successful_turns(SUPPORT, 40)
    said = {reply for _, reply in turns}
    assert 40 < len(turns) < 40 * 4 and said
    solved = 0
    for seed in range(40):
        agent, over = SUPPORT.agents["demonstrator"](seed), False
        _, info = env.reset(seed=seed)
        while not over:
            *_, over, _, info = env.step(agent.reply(info["conversation"], info["privileged"]))
        solved += info["success"]
    assert sum(all(m.role != "assistant" for m in conversation) for conversation, _ in turns) == (
        solved
    )


def test_no_success_is_named() -> None:
    class Hopeless(SupportScenario):
        @property
        def agents(self) -> Any:
            return {"demonstrator": SUPPORT.agents["random"]}

    with pytest.raises(ValueError, match="expected a demonstration that succeeds; got none"):
        RetrievalAgent(Hopeless(), demonstrations=3)


def test_the_index_is_built_once_and_fast() -> None:
    scenario, start = SupportScenario(), time.process_time()
    first = remember(scenario, 500)
    assert time.process_time() - start < 5
    assert remember(scenario, 500) is first
    assert remember(scenario, 20) is not first


def test_it_is_better_than_chance_with_unseen_customers() -> None:
    assert success(SUPPORT, "dev") >= 0.15  # a desk that says anything: 1%
    assert success(SUPPORT, "train", 50) >= 0.4  # its own demonstrations


def test_it_works_for_a_scenario_from_a_file(plants: ConsultScenario) -> None:
    assert Path(plants.path).exists()
    assert success(plants, "dev") >= 0.15


def test_the_seed_changes_nothing() -> None:
    _, info = DialogueEnv(SUPPORT, "test").reset(seed=0)
    said = {RetrievalAgent(SUPPORT, seed).reply(info["conversation"], {}) for seed in range(3)}
    assert len(said) == 1
