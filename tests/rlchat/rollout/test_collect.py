"""What a rollout writes down (ppo.md, tests 6, 9 and 13)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import gymnasium as gym
import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel

from rlchat.errors import Notice, UserError
from rlchat.inference import engine
from rlchat.inference.decoder import Decoder
from rlchat.inference.rows import Noise, Sampled
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.fetching.catalog import fetch, list_models
from rlchat.models.generation_model import GenerationModel
from rlchat.models.policy import Policy
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, StepResult, TextEnv
from rlchat.rollout.seeding import Purpose
from rlchat.rollout.trajectory import Ending, Trajectory
from rlchat.training.sft import dataset
from rlchat_envs import Message, Utterance

MakePolicy = Callable[..., Policy]
HERE = [model.name for model, here in list_models() if here or model.name == "tiny"]
EPISODES = 5
CONFIG = RolloutConfig(rows=2, max_new_tokens=8, max_tokens=580)


class Played:
    """Episodes of the tiny model at the support desk, and what passed through the decoder."""

    def __init__(self, policy: Policy):
        self.template = policy.template
        # It ends a turn once in about fifteen tokens, so that some turns finish and some are cut.
        self.model: PreTrainedModel = copy.deepcopy(policy.generation_model().model)
        head = self.model.get_output_embeddings()
        biased = torch.nn.Linear(64, len(policy.template.tokenizer))
        with torch.no_grad():
            biased.weight.copy_(head.weight)
            biased.bias.zero_()[policy.template.end_of_turn] = 3.0
        self.model.set_output_embeddings(biased)
        self.calls: list[tuple[list[int], Sampled]] = []

    def collect(self, config: RolloutConfig, order: Sequence[int]) -> list[Trajectory]:
        calls = self.calls = []

        class Recorder(Decoder):
            def submit(
                self, conversation: int, prompt: Sequence[int], noise: Noise, max_new_tokens: int
            ) -> None:
                super().submit(conversation, prompt, noise, max_new_tokens)
                calls.append((list(prompt), self._turns[conversation].generated))

        episodes = [(i, (0, 0, 1, i), (0, 0, 2, i)) for i in order]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "Decoder", Recorder)
            return collect(
                GenerationModel(self.model), self.template, EnvPool(EnvConfig()), episodes, config
            )


@pytest.fixture(scope="module")
def played(make_policy: MakePolicy) -> Played:
    return Played(make_policy())


@pytest.fixture(scope="module")
def trajectories(played: Played) -> list[Trajectory]:
    return played.collect(CONFIG, range(EPISODES))


def assert_full_forward(played: Played, t: Trajectory, tolerance: float) -> None:
    """What the sampler said of its tokens is what a forward without a cache says."""
    with torch.no_grad():
        logprobs = played.model(input_ids=torch.tensor([t.ids])).logits[0].log_softmax(-1)
    for place, acts in enumerate(t.action_mask):
        expected = float(logprobs[place - 1, t.ids[place]]) if acts else 0.0
        assert t.sampled_logprobs[place] == pytest.approx(expected, abs=tolerance)


def turns_of(t: Trajectory) -> list[list[int]]:
    """The sampled ids of each turn."""
    return [
        [i for i, k in zip(t.ids, t.turns, strict=True) if k == turn]
        for turn in range(len(t.parts))
    ]


def test_the_sampler_s_logprobs_are_one_full_forward(
    played: Played, trajectories: list[Trajectory]
) -> None:
    """More episodes than rows, which finish early, late and not at all."""
    lengths = {len(turn) for t in trajectories for turn in turns_of(t)}
    assert min(lengths) < 8 == max(lengths)
    assert len({len(t.parts) for t in trajectories}) > 1
    for t in trajectories:
        assert_full_forward(played, t, 1e-5)


def test_the_paged_engine_s_logprobs_are_one_full_forward_too(played: Played) -> None:
    """Its rows share pages and a generator; every turn goes on where the one before ended."""
    config = RolloutConfig(rows=3, max_new_tokens=8, max_tokens=580, engine="paged")
    trajectories = played.collect(config, range(EPISODES))
    assert [t.index for t in trajectories] == list(range(EPISODES))
    assert max(len(t.parts) for t in trajectories) > 1
    for t in trajectories:
        assert_full_forward(played, t, 1e-4)
        assert all(
            (turn[-1] == played.template.end_of_turn) or len(turn) == 8 for turn in turns_of(t)
        )


def test_the_paged_engine_cannot_hear_virtual_tokens(make_policy: MakePolicy) -> None:
    policy = make_policy("prompt")
    config = RolloutConfig(engine="paged")
    with pytest.raises(UserError, match=r"expected an adapter that can be merged.*virtual tokens"):
        collect(
            policy.generation_model(),
            policy.template,
            EnvPool(EnvConfig()),
            [(0, (0,), (1,))],
            config,
        )


def test_neither_rows_nor_order_change_an_episode(
    played: Played, trajectories: list[Trajectory]
) -> None:
    config = RolloutConfig(rows=5, max_new_tokens=8, max_tokens=580)
    others = played.collect(config, [3, 0, 4, 2, 1])
    assert [t.index for t in others] == list(range(EPISODES))
    for mine, theirs in zip(trajectories, others, strict=True):
        assert (mine.ids, mine.turns, mine.parts) == (theirs.ids, theirs.turns, theirs.parts)
        assert mine.sampled_logprobs == pytest.approx(theirs.sampled_logprobs, abs=1e-5)


def test_stored_ids_are_prompt_and_sampled_and_appended(played: Played) -> None:
    """With one row the decoder's calls are the episodes' turns, one after another."""
    config = RolloutConfig(rows=1, max_new_tokens=8, max_tokens=580)
    trajectories = played.collect(config, range(3))
    calls = iter(played.calls)
    for t in trajectories:
        ids: list[int] = []
        mask: list[bool] = []
        logprobs: list[float] = []
        for turn in range(len(t.parts)):
            prompt, said = next(calls)
            if turn:
                assert prompt[0] == ids[-1]  # the last sampled token enters the cache late
                prompt = prompt[1:]
            ids += [*prompt, *said.ids]
            mask += [False] * len(prompt) + [True] * len(said.ids)
            logprobs += [0.0] * len(prompt) + said.logprobs
        assert t.ids[: len(ids)] == ids
        assert t.action_mask == mask + [False] * (len(t.ids) - len(ids))
        assert t.sampled_logprobs == logprobs + [0.0] * (len(t.ids) - len(ids))
        assert t.terminated == (len(t.ids) == len(ids))
    assert next(calls, None) is None


def test_ids_are_what_rendering_makes_of_the_conversation(
    played: Played, trajectories: list[Trajectory]
) -> None:
    """Opening, then each turn as it was sampled, then what was heard; a cut turn is closed."""
    template = played.template
    kinds: set[object] = set()
    for t in trajectories:
        places = [i for i, m in enumerate(t.conversation) if m.role == "assistant"]
        turns = turns_of(t)
        assert len(places) == len(turns) == len(t.privileged) - t.truncated
        ids = template.opening(t.conversation[: places[0]])
        for k, (place, said) in enumerate(zip(places, turns, strict=True)):
            assert t.conversation[place].content == template.text(said)
            ids += said
            cut = said[-1] != template.end_of_turn
            kinds.add(cut)
            assert not cut or t.parts[k]["cut_off"] <= -CONFIG.cut_off_penalty
            if k + 1 < len(places) or t.truncated:
                end = places[k + 1] if k + 1 < len(places) else None
                ids += template.after(t.conversation[place + 1 : end], cut=cut)
        # What nobody will answer is kept up to the size of the cache.
        assert t.ids == ids[: CONFIG.max_tokens + CONFIG.max_new_tokens]
        assert t.terminated != t.truncated
        kinds.add("truncated" if t.truncated else "terminated")
    assert kinds == {True, False, "truncated", "terminated"}


def test_end_of_turn_is_an_action_unless_it_was_appended(
    played: Played, trajectories: list[Trajectory]
) -> None:
    end = played.template.end_of_turn
    for t in trajectories:
        for said in turns_of(t):
            assert end not in said[:-1]
            assert said[-1] == end or len(said) == CONFIG.max_new_tokens
        lists = (t.ids, t.action_mask, t.turns, t.sampled_logprobs)
        assert len({len(x) for x in lists}) == 1
        assert t.action_mask == [k >= 0 for k in t.turns]


def test_the_token_budget_truncates(played: Played) -> None:
    """The prompt of the turn that would have followed is kept; nobody speaks after it."""
    config = RolloutConfig(rows=2, max_new_tokens=8, max_tokens=500)
    cut = [t for t in played.collect(config, range(4)) if t.truncated]
    assert cut
    for t in cut:
        assert not t.terminated and t.ending is Ending.TOKEN_LIMIT
        assert not t.action_mask[-1]
        assert 500 - 8 < len(t.ids) <= 500 + 8
        last = max(place for place, acts in enumerate(t.action_mask) if acts)
        assert last < 500


def test_long_openings_beside_long_conversations(played: Played) -> None:
    """A row that starts while another is nearly full needs no more room than its own."""
    room = RolloutConfig(rows=3, max_new_tokens=8, max_tokens=560)
    assert len(played.collect(room, range(6))) == 6


class Reciter:
    """A decoder that says what it was given, as if it had been sampled."""

    def __init__(self, turns: list[list[int]]):
        self.turns, self.known, self.busy = turns, 0, False

    def forget(self, row: int) -> None:
        """Nothing to forget."""

    def length(self, row: int) -> int:
        return self.known

    def submit(self, row: int, prompt: list[int], *args: object) -> None:
        self.busy = True
        self.known += len(prompt)

    def step(self) -> dict[int, Sampled]:
        self.busy = False
        ids = self.turns.pop(0)
        self.known += len(ids) - 1
        return {0: Sampled(list(ids), [-1.0] * len(ids), finished=True)}


@pytest.mark.parametrize("name", HERE)
def test_the_warm_starts_ids_and_labels_are_the_rollouts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demonstrator's conversations, played again token by token."""
    template = ChatTemplate(AutoTokenizer.from_pretrained(fetch(name)))
    worlds, config = EnvPool(EnvConfig()), RolloutConfig(rows=1, max_tokens=100_000)
    conversations = demonstrate(EnvConfig(), 3, seed=5)
    rows = dataset(conversations, template, 100_000)
    for i, conversation in enumerate(conversations):
        turns = [template.reply(m.content) for m in conversation if m.role == "assistant"]
        monkeypatch.setattr(engine, "Decoder", lambda *_, turns=turns: Reciter(turns))
        monkeypatch.setattr(engine, "row_limit", lambda model: None)
        keys, nobody = (5, Purpose.DEMONSTRATE, i), SimpleNamespace(model=None, prefix_kv=None)
        (t,) = collect(cast(Any, nobody), template, worlds, [(0, keys, keys)], config)
        assert t.conversation == conversation
        length = len(rows[i]["input_ids"])
        assert rows[i]["input_ids"] == t.ids[:length]
        labels = [i if acts else -100 for i, acts in zip(t.ids, t.action_mask, strict=True)]
        assert rows[i]["labels"] == labels[:length]
        assert not any(t.action_mask[length:])
        assert sum(t.action_mask) > 10


@pytest.mark.parametrize("name", HERE)
def test_the_warm_start_and_a_trajectory_written_by_hand(name: str) -> None:
    template = ChatTemplate(AutoTokenizer.from_pretrained(fetch(name)))
    (conversation,) = demonstrate(EnvConfig(), 1, seed=6)
    places = [i for i, m in enumerate(conversation) if m.role == "assistant"]
    t = Trajectory(0, 0, template.opening(conversation[: places[0]]))
    for place, following in zip(places, [*places[1:], None], strict=True):
        said = template.reply(conversation[place].content)
        t.act(said, [-1.0] * len(said))
        t.parts.append({})
        if following is not None:
            t.observe(template.after(conversation[place + 1 : following]))
    (row,) = dataset([conversation], template, 100_000)
    assert row["input_ids"] == t.ids
    assert [label != -100 for label in row["labels"]] == t.action_mask
    assert all(a in (-100, b) for a, b in zip(row["labels"], t.ids, strict=True))


class Short(gym.Env[str, str]):
    """Says something long, answers twice, then stops: by a limit of its own, or at an end."""

    observation_space = Utterance()
    action_space = Utterance()

    def __init__(self, cut: bool):
        self.cut, self.steps = cut, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return " ".join(f"word{i}" for i in range(60)), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps == 2
        return "more", 1.0, over and not self.cut, over and self.cut, {}


gym.register("tests/Cut-v0", lambda **_: Short(cut=True))
gym.register("tests/Ends-v0", lambda **_: Short(cut=False))
Keys = tuple[int, tuple[int, ...], tuple[int, ...]]


def rolled(
    policy: Policy, env: str, keys: Sequence[Keys], temperature: float = 1.0, most: int = 600
) -> list[Trajectory]:
    config = RolloutConfig(max_new_tokens=8, max_tokens=most)
    pool = EnvPool(EnvConfig(env))
    return collect(policy.generation_model(), policy.template, pool, keys, config, temperature)


def sampled(t: Trajectory) -> list[int]:
    return [token for token, acts in zip(t.ids, t.action_mask, strict=True) if acts]


@pytest.mark.parametrize(
    ("env", "ended"), [("tests/Cut-v0", (False, True)), ("tests/Ends-v0", (True, False))]
)
def test_an_environments_truncation_is_no_end(
    env: str, ended: tuple[bool, bool], make_policy: MakePolicy
) -> None:
    """The value of what would have followed is read after a truncation, and 0 after an end."""
    (t,) = rolled(make_policy(), env, [(0, (1,), (2,))])
    assert (t.terminated, t.truncated) == ended
    assert len(t.parts) == 2


def test_noise_is_the_samplers_own_and_greedy_needs_none(make_policy: MakePolicy) -> None:
    policy = make_policy()
    same = rolled(policy, "tests/Ends-v0", [(0, (1,), (2,)), (1, (7,), (2,)), (2, (1,), (3,))])
    assert sampled(same[0]) == sampled(same[1]) != sampled(same[2])
    greedy = rolled(policy, "tests/Ends-v0", [(0, (1,), (2,)), (1, (1,), (3,))], temperature=0.0)
    assert sampled(greedy[0]) == sampled(greedy[1]) != sampled(same[0])


def test_of_a_long_opening_the_end_is_kept(make_policy: MakePolicy) -> None:
    """Whoever opens at length has asked for something at the end of it."""
    policy = make_policy()
    (t,) = rolled(policy, "tests/Ends-v0", [(0, (1,), (2,))], most=100)
    opening = policy.template.opening((Message("user", Short(False).reset()[0]),))
    room = 100 - 8
    assert len(opening) > room
    assert t.ids[:room] == opening[-room:]
    assert not any(t.action_mask[:room])


def test_messages_that_are_cut_are_told_after_a_rollout(make_policy: MakePolicy) -> None:
    policy = make_policy()
    template = ChatTemplate(policy.template.tokenizer, 20)
    config, pool = RolloutConfig(rows=2, max_new_tokens=2, max_tokens=200), EnvPool(EnvConfig())
    episodes = [(i, (0, 0, 1, i), (0, 0, 2, i)) for i in range(2)]
    with pytest.warns(Notice, match=r"of \d+ messages that the model has read were cut") as told:
        for _ in range(2):
            collect(policy.generation_model(), template, pool, episodes, config)
    assert len(told) == 1


def test_what_was_unsafe_is_noted_turn_by_turn(
    make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TextEnv.step

    def unsafe(env: TextEnv, text: str) -> StepResult:
        return replace(step(env, text), costs={"advice": 0.5})

    monkeypatch.setattr(TextEnv, "step", unsafe)
    (t,) = rolled(make_policy(), "tests/Ends-v0", [(0, (1,), (2,))])
    assert t.costs == [{"advice": 0.5}, {"advice": 0.5}]
    assert t.cost == 1.0 and t.score != t.cost


def test_what_is_privileged_is_noted_before_each_turn(
    make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two turns see 0 and 1 answers; a truncated episode is asked once more, after the second."""
    step = TextEnv.step

    def hiding(env: TextEnv, text: str) -> StepResult:
        result = step(env, text)
        env.privileged = {"answers": env.privileged.get("answers", 0) + 1}
        return result

    monkeypatch.setattr(TextEnv, "step", hiding)
    for env, seen in (("tests/Ends-v0", [0, 1]), ("tests/Cut-v0", [0, 1, 2])):
        (t,) = rolled(make_policy(), env, [(0, (1,), (2,))])
        assert [facts.get("answers", 0) for facts in t.privileged] == seen


@pytest.mark.parametrize("env", ["tests/Cut-v0", "tests/Ends-v0"])
def test_states_are_kept_of_what_has_ended(env: str, make_policy: MakePolicy) -> None:
    """A truncated episode goes on in the forward: its last tokens were never in the cache."""
    policy = make_policy()
    config = RolloutConfig(max_new_tokens=8, max_tokens=600)
    (t,) = collect(
        policy.generation_model(),
        policy.template,
        EnvPool(EnvConfig(env)),
        [(0, (1,), (2,))],
        config,
        kept_layers=1,
        keep_sampled_states=True,
    )
    assert t.terminated != t.truncated
    if t.truncated:
        assert t.cached_states is None and t.sampled_states is None
        return
    assert t.cached_states is not None and t.sampled_states is not None
    assert len(t.cached_states) == len(t.ids) - 1
    assert len(t.sampled_states) == sum(t.action_mask)


def test_a_turn_that_runs_out_of_tokens_is_paid_for(make_policy: MakePolicy) -> None:
    """Once, by what the settings say; no rule of an environment's own does it here."""
    policy, config = make_policy(), RolloutConfig(max_new_tokens=8, cut_off_penalty=0.25)
    pool = EnvPool(EnvConfig("tests/Ends-v0"))
    keys = [(i, (1,), (i,)) for i in range(2)]
    played = collect(policy.generation_model(), policy.template, pool, keys, config)
    for t in played:
        cut = [turn[-1] != policy.template.end_of_turn for turn in turns_of(t)]
        assert t.parts == [{"reward": 1.0, **({"cut_off": -0.25} if c else {})} for c in cut]
    assert any("cut_off" in parts for t in played for parts in t.parts)
