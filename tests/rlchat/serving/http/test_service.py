"""Several agents of one base, models that are run by rows, and agents that think."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlchat.errors import UserError
from rlchat.inference.load_agent import load_agent, load_model_agents
from rlchat.inference.model_agent import ModelAgent
from rlchat.models.config import AdapterConfig
from rlchat.rollout.config import RolloutConfig
from rlchat.serving.http.config import GenerationConfig
from rlchat.serving.http.service import Service
from rlchat.serving.http.wire import ChatRequest
from rlchat.serving.session import ChatSession
from tests.rlchat.models.test_architectures import folder_of, tiny_model
from tests.rlchat.training.test_thinking import thinker

SMALL = AdapterConfig(dtype="float32", device="cpu")


def reply(service: Service, **wish: Any) -> tuple[str, list[int], int]:
    """The text, the tokens and the cached tokens of one reply."""
    wish = {"model": "a", "messages": [{"role": "user", "content": "Hi"}], "seed": 3, **wish}

    async def ask() -> tuple[str, list[int], int]:
        job = await service.begin(ChatRequest.model_validate(wish), time.monotonic())
        pieces = [piece async for piece in job.pieces()]
        ended = pieces[-1].ended
        assert ended is not None and ended.reason != "error"
        return ended.text, [i for piece in pieces for i in piece.ids], ended.cached

    return asyncio.run(ask())


def talk(service: Service, agent: ModelAgent, **wish: Any) -> list[int]:
    """Turns, which are compared with a session of the same seed; their cached tokens."""
    rollout = RolloutConfig(max_new_tokens=6, max_tokens=700, thinking=wish.pop("thinking", ""))
    turns = wish.pop("turns", 3)
    temperature = wish.get("temperature", 1.0)
    session = ChatSession(agent, None, seed=3, temperature=temperature, rollout=rollout)
    messages, cached = [], []
    for said in ("Is it?", "Sure?", "Thanks")[:turns]:
        messages.append({"role": "user", "content": said})
        expected = "".join(session.reply(said))
        text, _, kept = reply(service, messages=list(messages), max_tokens=6, **wish)
        assert text == expected
        messages.append({"role": "assistant", "content": text})
        cached.append(kept)
    return cached


def test_agents_of_one_base_share_its_weights(
    tmp_path: Path, make_policy: Callable[..., Any]
) -> None:
    for name in ("one", "two"):
        make_policy(noise=0.1 if name == "one" else 0.5, layers=0.5).save(tmp_path / name)
    names = [str(tmp_path / "one"), str(tmp_path / "two"), "base"]
    agents = load_model_agents(names, "tiny", SMALL)
    weights = [dict(agent.generation.model.named_parameters()) for agent in agents]
    shared = [
        name
        for name, own in weights[0].items()
        if all(other[name].data_ptr() == own.data_ptr() for other in weights[1:])
    ]
    assert "model.embed_tokens.weight" in shared
    assert any(name.startswith("model.layers.0.mlp") for name in shared)
    service = Service([(str(i), agent) for i, agent in enumerate(agents)])
    try:
        said = [reply(service, model=str(i), temperature=0)[1] for i in range(3)]
        alone = [load_agent(name, "tiny", SMALL) for name in names]
        for ids, agent in zip(said, alone, strict=True):
            session = ChatSession(agent, None, seed=3, rollout=RolloutConfig())
            "".join(session.reply("Hi"))
            assert session.last_reply is not None and list(session.last_reply.ids) == ids
        assert len({tuple(ids) for ids in said}) == 3
    finally:
        service.close()


def test_scripts_are_not_served() -> None:
    with pytest.raises(UserError, match=r"language models here: .*; got 'expert'; leave it out"):
        load_model_agents(["base", "expert"], "tiny", SMALL)


@pytest.mark.parametrize("kind", ["mamba", "gpt_neo"])
def test_models_that_are_run_by_rows_are_served(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLCHAT_CACHE", str(tmp_path / "cache"))
    folder = folder_of(tiny_model(kind), tmp_path / "model")
    agent = load_agent("base", str(folder), SMALL)
    assert isinstance(agent, ModelAgent)
    service = Service([("a", agent)], GenerationConfig(rows=2, kept=2, max_tokens=700))
    try:
        if kind == "mamba":
            _, second, third = talk(service, agent)
            assert third > second > 10
        else:  # which is read anew, and has learned few positions
            talk(service, agent, turns=1)
    finally:
        service.close()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_thoughts_come_before_replies_as_in_chat(
    make_policy: Callable[..., Any], temperature: float
) -> None:
    made = ModelAgent.of(make_policy())
    agent = replace(made, template=thinker("3"))
    service = Service([("a", agent)], GenerationConfig(max_tokens=700))
    try:
        talk(service, agent, temperature=temperature, thinking="3")
        _, ids, _ = reply(service, max_tokens=5, temperature=temperature)
        assert len(ids) > 5  # thoughts have a budget of their own
    finally:
        service.close()


def test_an_agent_without_room_for_thoughts_is_refused(make_policy: Callable[..., Any]) -> None:
    agent = replace(ModelAgent.of(make_policy()), template=thinker("300"))
    with pytest.raises(UserError, match="expected room for a reply of a within 200 tokens"):
        Service([("a", agent)], GenerationConfig(max_tokens=200))


def test_conversations_that_are_forgotten_are_read_from_their_texts(
    make_policy: Callable[..., Any],
) -> None:
    service = Service([("a", ModelAgent.of(make_policy()))])
    service.models["a"].memory._most = 1
    try:
        first = [{"role": "user", "content": "Hi"}]
        text, _, _ = reply(service, messages=first)
        reply(service, messages=[{"role": "user", "content": "Another"}])
        assert len(service.models["a"].memory._known) == 1
        later = [*first, {"role": "assistant", "content": text}, *first]
        one, two = (reply(service, messages=later) for _ in range(2))
        assert one[:2] == two[:2] and two[2] > one[2] > 0
    finally:
        service.close()
