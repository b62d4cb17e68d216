"""The supervised start: what it learns from, that it learns, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from rlchat.errors import UserError
from rlchat.listener import Listener
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rollout.conversations import read_conversations
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.config import SFTConfig, WarmStartConfig
from rlchat.training.pipeline import sft
from rlchat.training.sft import (
    IGNORED,
    KEPT,
    _ActionTrainer,
    dataset,
    rate,
    validation_rows,
    warm_start,
    what_is_lost,
)
from rlchat_envs import Conversation, Message

ADAPTER = AdapterConfig(layers=1.0, rank=8, alpha=16, dtype="float32", device="cpu")
ANSWERS = {"up": "down", "left": "right"}


def talk(i: int) -> Conversation:
    """Ragged: some have a system message, some a second turn."""
    word = list(ANSWERS)[i % 2]
    messages = [Message("user", f"{i} {word}"), Message("assistant", ANSWERS[word])]
    if i % 3 == 0:
        messages.insert(0, Message("system", "Say the opposite."))
    if i % 4 == 0:
        messages += [Message("tool", "x"), Message("user", "no"), Message("assistant", "yes")]
    return tuple(messages)


TALKS = [talk(i) for i in range(40)]


def likelihood(policy: Policy, talks: Sequence[Conversation]) -> float:
    """Nats per assistant token, one conversation at a time, from the whole model's logits."""
    total, count = 0.0, 0
    with torch.no_grad():
        for conversation in talks:
            tokenized = policy.template.conversation(conversation)
            ids = torch.tensor([tokenized.ids])
            logprobs = policy.model(input_ids=ids).logits[0].double().log_softmax(-1)
            for position, acts in enumerate(tokenized.action_mask):
                if acts:
                    total -= float(logprobs[position - 1, ids[0, position]])
                    count += 1
    return total / count


def test_ids_and_labels_are_the_rollouts(policy: Policy) -> None:
    """Those a trajectory has in which the same was said (ppo.md, test 13)."""
    template = policy.template
    for conversation, row in zip(TALKS, dataset(TALKS, template, 1000), strict=True):
        turns = [i for i, m in enumerate(conversation) if m.role == "assistant"]
        trajectory = Trajectory(0, 0, template.opening(conversation[: turns[0]]))
        for here, following in zip(turns, [*turns[1:], None], strict=True):
            said = template.reply(conversation[here].content)
            trajectory.act(said, [0.0] * len(said))
            trajectory.parts.append({})
            if following is not None:
                trajectory.observe(template.after(conversation[here + 1 : following]))
        assert row["input_ids"] == trajectory.ids
        acted = zip(trajectory.ids, trajectory.action_mask, strict=True)
        assert row["labels"] == [i if acts else IGNORED for i, acts in acted]
        ends = [label for label in row["labels"] if label == template.end_of_turn]
        assert len(ends) == len(turns)


def test_long_conversations_are_cut(policy: Policy) -> None:
    whole, cut = (dataset(TALKS[:1], policy.template, n)[0] for n in (1000, 10))
    assert cut == {key: value[:10] for key, value in whole.items()}
    assert len(whole["input_ids"]) > 10


def test_what_is_cut_is_told_once_with_counts(tmp_path: Path) -> None:
    policy = Policy.create("tiny", replace(ADAPTER, max_message_tokens=12))
    long, shut = "a" * 300, "b" * 900  # the byte tokenizer gives each letter a token
    talks = [
        *TALKS[:4],
        (Message("system", long), Message("user", "up"), Message("assistant", "down")),
        (Message("user", "up"), Message("assistant", long)),
        (*TALKS[0][1:3], *[Message("user", shut)] * 9, Message("assistant", "no")),
    ]
    told: list[str] = []
    config = WarmStartConfig(batch=2, epochs=1, max_tokens=200)
    warm_start(policy, talks, config, 0, tmp_path / "out", warn=told.append)
    messages = sum(m.role != "assistant" for talk in talks for m in talk)
    assert told == [
        "warm start: 2 of 7 conversations have more than 200 tokens and were cut there "
        f"(--warm-start.max-tokens); 12 of {messages} messages that the model has read were cut "
        "to their first 12 tokens; --adapter.max-message-tokens leaves it more"
    ]
    again = [policy.template.conversation(talk) for talk in TALKS[:4]]
    assert what_is_lost(again, policy.template, 999) == ""


def test_where_the_agent_says_nothing_there_is_nothing_to_learn(tmp_path: Path) -> None:
    late = (Message("user", "a" * 300), Message("assistant", "down"))
    told: list[str] = []
    config = WarmStartConfig(batch=2, epochs=1, max_tokens=100)
    # Were the first tenth held out as it is, there would be no token to measure.
    talks, policy = [late, *TALKS[:3]], Policy.create("tiny", ADAPTER)
    losses = warm_start(policy, talks, config, 0, tmp_path / "out", True, warn=told.append)
    assert told[0].endswith(
        "1 of 4 conversations were left out, as the agent says nothing in them that is kept"
    )
    assert len(losses) == 1 and losses[0] > 0
    with pytest.raises(UserError, match=r"at least 2 conversations.*got 1 \(.*3 of 4 conv.* left"):
        warm_start(policy, [late, late, late, TALKS[0]], config, 0, tmp_path / "none")


def turn_by_turn(i: int, turns: int) -> list[Conversation]:
    """A conversation in as many rows as it has turns, each as long as one of them."""
    said = [
        m for t in range(turns) for m in (Message("user", f"{i} {t}"), Message("assistant", "x"))
    ]
    return [tuple(said[: 2 * t + 2]) for t in range(turns)]


def test_what_is_held_out_is_drawn_by_conversation() -> None:
    rows = [row for i in range(60) for row in turn_by_turn(i, 1 + i % 4)]
    drawn = [validation_rows(rows, seed) for seed in range(20)]
    for held_out in drawn:
        assert 0.05 * len(rows) < len(held_out) <= 0.1 * len(rows)
        inside = {rows[i][0] for i in held_out}
        assert inside.isdisjoint(rows[i][0] for i in set(range(len(rows))) - set(held_out))
    assert drawn[0] == validation_rows(rows, 0)
    assert len({tuple(held_out) for held_out in drawn}) == 20
    places = [i / len(rows) for held_out in drawn for i in held_out]
    assert 0.4 < sum(places) / len(places) < 0.6  # and not the first of the file


@pytest.mark.parametrize(
    "rows",
    [
        TALKS[:2],
        [TALKS[0]] * 5,
        turn_by_turn(0, 12),
        [*turn_by_turn(0, 30), TALKS[0]],
        [*turn_by_turn(0, 30), *turn_by_turn(1, 30)],
    ],
)
def test_neither_part_is_ever_empty(rows: list[Conversation]) -> None:
    for seed in range(5):
        assert 0 < len(validation_rows(rows, seed)) < len(rows)


class Ear(Listener):
    """Remembers what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, line: str) -> None:
        self.warnings.append(line)


def test_a_file_s_conversations_are_held_out_at_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of simulators come in random order, and are held out from the first on, as before."""
    drawn: list[int] = []

    def draw(conversations: Sequence[Conversation], seed: int) -> list[int]:
        assert seed == 3 and set(conversations) <= set(TALKS)
        drawn.append(len(conversations))
        return validation_rows(conversations, seed)

    monkeypatch.setattr("rlchat.training.sft.validation_rows", draw)
    rows = [{"messages": [{"role": m.role, "content": m.content} for m in t]} for t in TALKS]
    config = SFTConfig(
        data=write(tmp_path / "talks.jsonl", *rows),
        policy="tiny",
        out=tmp_path / "out",
        seed=3,
        adapter=ADAPTER,
        warm_start=WarmStartConfig(epochs=1, max_tokens=40, demonstrations=4),
    )
    ear = Ear()
    sft(config, ear)
    assert len(drawn) == 1
    (told,) = ear.warnings
    assert "of 40 conversations have more than 40 tokens" in told
    played = replace(config.warm_start, max_tokens=1024)
    sft(replace(config, data=None, out=tmp_path / "other", warm_start=played), Ear())
    assert len(drawn) == 1


@pytest.mark.parametrize("top", [1.0, 0.5])
@pytest.mark.parametrize("items", [None, 17])
def test_the_loss_is_the_cross_entropy_of_labelled_tokens(
    policy: Policy, items: int | None, top: float
) -> None:
    policy.freeze_reference()
    policy.train_top(top)
    rows = [dataset(TALKS, policy.template, 1000)[i] for i in (0, 1, 4)]
    width = max(len(row["input_ids"]) for row in rows)
    assert len({len(row["input_ids"]) for row in rows}) > 1  # so there is padding
    ids = torch.full((3, width), 257)
    labels = torch.full((3, width), IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        labels[i, : len(row["labels"])] = torch.tensor(row["labels"])
    trainer = object.__new__(_ActionTrainer)  # the loss reads nothing but the policy
    trainer.policy, trainer.cached_states, trainer.room = policy, {}, KEPT
    own = list(policy.parameters())
    mask = torch.arange(width) < torch.tensor([[len(row["input_ids"])] for row in rows])
    inputs = {"input_ids": ids, "labels": labels, "attention_mask": mask.long()}
    loss = trainer.compute_loss(None, inputs, False, items)
    gradients = torch.autograd.grad(loss, own)
    assert len(trainer.cached_states) == (3 if top < 1 else 0)
    # Alone, or in another order, they start from what was kept.
    first = {name: x.flip(0)[:2] for name, x in inputs.items()}
    with torch.no_grad():
        fresh = object.__new__(_ActionTrainer)
        fresh.policy, fresh.cached_states = policy, {}
        kept, anew = (t.compute_loss(None, first, False, items) for t in (trainer, fresh))
    torch.testing.assert_close(kept, anew, atol=1e-5, rtol=0)

    logits = policy.model(input_ids=ids, attention_mask=mask.long()).logits
    total = cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    expected = total / (items or int((labels[:, 1:] != IGNORED).sum()))
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    for a, b in zip(gradients, torch.autograd.grad(expected, own), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_it_learns_and_leaves_an_adapter(tmp_path: Path) -> None:
    policy = Policy.create("tiny", ADAPTER)
    before = likelihood(policy, TALKS[:4])
    rows: list[dict[str, float]] = []
    config = WarmStartConfig(learning_rate=1e-2, batch=8, epochs=4)
    losses = warm_start(
        policy, TALKS, config, 0, tmp_path / "out", True, report=lambda row: rows.append(dict(row))
    )
    assert 1 < len(losses) <= 4
    assert losses[0] < 0.9 * before
    assert losses[-1] < losses[0]
    assert any("loss" in row and 0 < row["done"] <= 1 for row in rows)
    # The first tenth is held out; its loss is what the adapter, loaded anew, has there.
    again = Policy.create("tiny", ADAPTER, adapter=tmp_path / "out")
    assert likelihood(again, TALKS[:4]) == pytest.approx(losses[-1], abs=1e-4)


def test_what_is_kept_from_epoch_to_epoch_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same adapter, whether all, some or no states are kept."""
    top = replace(ADAPTER, layers=0.5)
    config = WarmStartConfig(learning_rate=1e-2, batch=3, epochs=2, tolerance=-1.0)
    losses = []
    for bytes_kept in (2**30, 20_000, 0):
        monkeypatch.setattr("rlchat.training.sft.KEPT", bytes_kept)
        policy = Policy.create("tiny", top)
        losses.append(warm_start(policy, TALKS[:12], config, 0, tmp_path / str(bytes_kept)))
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[2] == pytest.approx(losses[0], abs=1e-4)


def test_the_rate_falls_like_a_bell_curve() -> None:
    """.01^((step / steps)^2): .01^(1/4) = .316 half-way, .01 at the end."""
    assert [rate(s, 100) for s in (0, 4)] == pytest.approx([0.1, 0.5], rel=0.02)
    assert [rate(s, 100) for s in (50, 100)] == pytest.approx([0.3162, 0.01], rel=1e-3)


def test_a_single_pass_keeps_no_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    loss = _ActionTrainer.compute_loss

    def counted(trainer: _ActionTrainer, *arguments: Any, **named: Any) -> Any:
        kept.append(len(trainer.cached_states))
        return loss(trainer, *arguments, **named)

    monkeypatch.setattr(_ActionTrainer, "compute_loss", counted)
    for epochs in (1, 2):
        policy, out = Policy.create("tiny", replace(ADAPTER, layers=0.5)), tmp_path / str(epochs)
        config = WarmStartConfig(epochs=epochs, tolerance=-1.0)
        losses = warm_start(policy, TALKS[:12], config, 0, out)
        assert len(losses) == epochs
        assert (max(kept) > 0) == (epochs > 1)


def test_it_ends_once_the_validation_loss_stays(tmp_path: Path) -> None:
    config = WarmStartConfig(learning_rate=1e-9, batch=8, epochs=9)
    losses = warm_start(Policy.create("tiny", ADAPTER), TALKS[:12], config, 0, tmp_path / "out")
    assert len(losses) == 2


def test_one_conversation_is_too_few(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected at least 2 conversations to learn from; got 1"):
        warm_start(policy, TALKS[:1], WarmStartConfig(), 0, tmp_path / "out")


def test_demonstrations_are_the_seeds() -> None:
    world = EnvConfig()
    three = demonstrate(world, 3, seed=5)
    assert demonstrate(world, 2, seed=5) == three[:2]
    assert len(set(three)) == 3
    assert demonstrate(world, 1, seed=6) != three[:1]
    for conversation in three:
        assert [m.role for m in conversation][:3] == ["system", "user", "assistant"]


def test_an_environment_without_a_demonstrator_is_named() -> None:
    with pytest.raises(UserError, match=r"has none; set --warm-start\.demonstrations 0"):
        demonstrate(EnvConfig(foreign()), 1, 0)


def foreign() -> str:
    import gymnasium as gym

    class Echo(gym.Env[str, str]):
        observation_space = action_space = gym.spaces.Text(9)

    if "tests/Echo-v0" not in gym.registry:
        gym.register("tests/Echo-v0", Echo)
    return "tests/Echo-v0"


def write(path: Path, *rows: object) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def said(*messages: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


def test_conversations_are_read(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": m.role, "content": m.content} for m in t]} for t in TALKS]
    rows[0]["source"] = "somewhere"  # type: ignore[assignment]
    path = write(tmp_path / "talks.jsonl", *rows[:20], "", *rows[20:], "  ")
    assert read_conversations(path) == TALKS
    # Line breaks that JSON does not escape are part of a text.
    odd = (Message("user", "a\u2028b\x85c"), Message("assistant", "d\r\ne"))
    raw = json.dumps(said(*((m.role, m.content) for m in odd)), ensure_ascii=False)
    assert read_conversations(write(path, raw, raw)) == [odd, odd]


GOOD = said(("user", "hi"), ("assistant", "señor"))


@pytest.mark.parametrize(
    "line, what",
    [
        ("{", "not JSON"),
        ("3", "expected an object with names and values"),
        ("{}", 'expected a list "messages"'),
        (json.dumps({"messages": []}), "no assistant says anything in it"),
        (json.dumps({"messages": ["hi"]}), "objects with role and content"),
        (json.dumps(said(("robot", "hi"))), "roles of system, user, assistant, tool"),
        (json.dumps(said(("user", None))), "text as content, not pictures, sound or nothing"),
        (json.dumps(said(("user", "hi"))), "no assistant says anything in it"),
    ],
)
def test_a_wrong_line_is_named(line: str, what: str, tmp_path: Path) -> None:
    path = write(tmp_path / "talks.jsonl", "", line)
    with pytest.raises(UserError, match=r"expected conversations; .* \(line 2\)$") as raised:
        read_conversations(path)
    assert str(path) in str(raised.value)
    assert what in str(raised.value)
    assert len(read_conversations(write(path, GOOD, "", line, GOOD))) == 2


def test_a_file_without_conversations_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.jsonl", tmp_path, write(tmp_path / "empty.jsonl", "", " ")):
        with pytest.raises(UserError) as raised:
            read_conversations(path)
        assert str(path) in str(raised.value)
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(GOOD, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        read_conversations(tmp_path / "latin.jsonl")
