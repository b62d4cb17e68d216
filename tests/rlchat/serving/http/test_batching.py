"""Replies in one batch: they join and leave, share what they begin with, and do not mix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rlchat.inference.model_agent import ModelAgent
from rlchat.models.templates.context import Context
from rlchat.serving.http.batching import Batcher, Lane
from rlchat.serving.http.choice import Choice, Piece, Wishes
from rlchat_envs import Message


def choice_of(
    agent: ModelAgent,
    text: str,
    seed: int = 0,
    budget: int = 12,
    leader: Choice | None = None,
    stop: tuple[str, ...] = (),
    top_p: float = 1.0,
    temperature: float = 1.0,
) -> tuple[Choice, list[Piece]]:
    context = Context(agent.template, budget)
    context.open((Message("user", text),), 10_000)
    pieces: list[Piece] = []
    noise = np.random.default_rng(seed).random
    wishes = Wishes(noise, temperature, top_p, stop, None)
    return Choice(0, agent.template, context, (), wishes, pieces.append, leader), pieces


def run(lane: Lane) -> None:
    while lane.busy:
        lane.step()


def ids_of(pieces: list[Piece]) -> list[int]:
    return [i for piece in pieces for i in piece.ids]


def count_read(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each forward from now on."""
    counts: list[int] = []
    original = lane._decoder._run  # type: ignore[union-attr]

    def counting(ids: Tensor, *rest: object) -> object:
        counts.append(len(ids))
        return original(ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(lane._decoder, "_run", counting)
    return counts


def test_a_reply_is_the_same_alone_and_among_eight_others(agent: ModelAgent) -> None:
    alone, pieces = choice_of(agent, "Where is my parcel?", 7, top_p=0.9, temperature=0.8)
    lane = Lane(agent, 9, 0, 300)
    lane.waiting.append(alone)
    run(lane)
    among, others = choice_of(agent, "Where is my parcel?", 7, top_p=0.9, temperature=0.8), []
    lane = Lane(agent, 9, 0, 300)
    for number in range(8):
        other, _ = choice_of(
            agent, f"{number} " * number, number, budget=4 + 3 * number, temperature=number % 3 / 2
        )
        others.append(other)
    lane.waiting.extend(others[:4])
    for _ in range(5):  # some are in the middle, some have left
        lane.step()
    lane.waiting.extend([among[0], *others[4:]])
    run(lane)
    assert ids_of(among[1]) == ids_of(pieces)
    assert len(ids_of(pieces)) > 3


def test_a_reply_joins_and_leaves_while_others_are_generated(agent: ModelAgent) -> None:
    lane = Lane(agent, 2, 0, 300)
    long, _ = choice_of(agent, "Hello", budget=40, temperature=0)
    lane.waiting.append(long)
    for _ in range(5):
        lane.step()
    short, pieces = choice_of(agent, "Other", budget=3)
    lane.waiting.append(short)
    for _ in range(3):
        lane.step()
    assert short.ended is not None and long.ended is None
    assert pieces[-1].ended == short.ended and len(lane.running) == 1
    run(lane)
    assert long.ended is not None and lane.kept == 0


def test_the_second_turn_reads_only_what_is_new(
    agent: ModelAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = Lane(agent, 2, 2, 600)
    first, _ = choice_of(agent, "Hello there, " * 10, budget=8, temperature=0)
    lane.waiting.append(first)
    run(lane)
    second, _ = choice_of(agent, "x", budget=1)
    second.context = first.context.with_budget(1)
    before = len(second.context.ids)
    second.context.hear((Message("user", "And now?"),), cut=True)
    new = len(second.context.ids) - before
    counts = count_read(lane, monkeypatch)
    lane.waiting.append(second)
    run(lane)
    assert sum(counts) == new + 1  # the last token that was sampled is not in the cache yet
    assert second.cached == before - 1


def test_a_conversation_that_is_not_kept_is_read_again(
    agent: ModelAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = Lane(agent, 1, 1, 600)
    one, _ = choice_of(agent, "One conversation " * 5, budget=2)
    two, _ = choice_of(agent, "Quite another " * 9, budget=2)
    lane.waiting.extend([one, two])
    run(lane)
    assert lane.kept == 1  # the newer one
    counts = count_read(lane, monkeypatch)
    again, _ = choice_of(agent, "Quite another " * 9, budget=1)
    lane.waiting.append(again)
    run(lane)
    assert sum(counts) == 1


def test_replies_to_one_prompt_read_it_once(
    agent: ModelAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = Lane(agent, 4, 0, 300)
    leader, _ = choice_of(agent, "The same for all of us", budget=1)
    prompt = len(leader.context.ids)
    copies = [choice_of(agent, "The same for all of us", n, 1, leader)[0] for n in (1, 2)]
    counts = count_read(lane, monkeypatch)
    lane.waiting.extend([leader, *copies])
    run(lane)
    assert sum(counts) <= prompt * 3
    lane = Lane(agent, 4, 0, 300)
    leader, _ = choice_of(agent, "The same for all of us", budget=3, temperature=0)
    copies = [choice_of(agent, "The same for all of us", n, 1, leader)[0] for n in (1, 2)]
    counts = count_read(lane, monkeypatch)
    lane.waiting.extend([leader, *copies])
    run(lane)
    assert sum(counts) == prompt + 2 + 2  # two more tokens, and a last one of each copy's prompt
    assert [copy.cached for copy in copies] == [prompt - 1] * 2


def test_who_is_cancelled_frees_the_row_at_once(agent: ModelAgent) -> None:
    lane = Lane(agent, 1, 1, 300)
    first, pieces = choice_of(agent, "Hello", budget=200, temperature=0)
    second, _ = choice_of(agent, "Other", budget=2)
    lane.waiting.extend([first, second])
    for _ in range(3):
        lane.step()
    assert second in lane.waiting
    lane.cancel(first)
    assert pieces[-1].ended is not None
    lane.step()
    assert list(lane.running.values()) == [second]
    third, told = choice_of(agent, "Third")
    lane.waiting.append(third)
    lane.cancel(third)
    assert third not in lane.waiting and told[-1].ended is not None
    run(lane)


def test_a_stop_text_ends_a_reply_and_is_not_shown(agent: ModelAgent) -> None:
    lane = Lane(agent, 1, 0, 300)
    plain, pieces = choice_of(agent, "Hello", 3, 24)
    lane.waiting.append(plain)
    run(lane)
    text = plain.ended.text if plain.ended else ""
    stop = text[5:7]
    cut, told = choice_of(agent, "Hello", 3, 24, stop=("never there", stop))
    lane.waiting.append(cut)
    run(lane)
    assert cut.ended is not None and cut.ended.reason == "stop" and not cut.ended.whole
    assert cut.ended.text == text[: text.index(stop)]
    assert "".join(piece.text for piece in told) == cut.ended.text
    assert ids_of(pieces)[: len(ids_of(told))] == ids_of(told)


def test_a_failure_ends_replies_and_not_the_thread(
    agent: ModelAgent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lane, batcher = Lane(agent, 2, 2, 300), Batcher()
    batcher.lanes = [lane]

    def fail(*_: object) -> None:
        raise RuntimeError("what somebody said")

    with monkeypatch.context() as broken:
        broken.setattr(lane._decoder, "_forward", fail)
        choice, pieces = choice_of(agent, "Hello")
        lane.waiting.append(choice)
        batcher._step(lane)
    assert pieces[-1].ended is not None and pieces[-1].ended.reason == "error"
    assert "RuntimeError" in caplog.text and "somebody" not in caplog.text
    again, told = choice_of(agent, "Hello", budget=2)
    batcher.start()
    batcher.submit(lane, [again])
    batcher.close()  # once what was ordered before is done, or ended
    batcher.join(20)
    assert not batcher.is_alive() and told[-1].ended is not None


def test_a_text_that_cannot_be_read_ends_its_reply_and_not_the_thread(
    agent: ModelAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane, batcher = Lane(agent, 2, 2, 300), Batcher()
    batcher.lanes = [lane]

    def fail(*_: object) -> None:
        raise ValueError

    choice, pieces = choice_of(agent, "Hello")
    with monkeypatch.context() as broken:
        broken.setattr(type(agent.template), "text", fail)
        lane.waiting.append(choice)
        batcher._step(lane)
    assert pieces[-1].ended is not None and pieces[-1].ended.reason == "error"
    assert not lane.busy and not lane.kept


def test_the_most_probable_tokens_are_drawn_from() -> None:
    from rlchat.models.logits import sample

    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    drawn = [int(sample(logits, [u], 1.0, 0.7)[0]) for u in np.linspace(0, 0.999, 50)]
    assert set(drawn) == {0, 1}
    assert drawn.count(0) / 50 == pytest.approx(0.5 / 0.8, abs=0.03)
    _, logprobs = sample(logits, [0.99], 1.0, 0.7)
    assert float(logprobs) == pytest.approx(float(np.log(0.3 / 0.8)), abs=1e-5)
    assert int(sample(logits, [0.99], 1.0, 1e-9)[0]) == 0
    tied = torch.zeros(3, 5)
    assert set(sample(tied, [0.0, 0.5, 0.99], 1.0, 0.4)[0].tolist()) == {0, 1}
