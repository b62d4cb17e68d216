"""The mathematics, by hand or by brute force (ppo.md, tests 1, 4 and 10)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from rlchat.algorithms import ppo
from rlchat.algorithms.ppo import Clip, Discounts

DOUBLE = torch.float64
ANY = Discounts(gamma_token=0.97, lambda_token=0.9, gamma_turn=0.8, lambda_turn=0.6)


@dataclass(frozen=True)
class Rows:
    """A ragged batch of conversations; masked slots hold ``filler``."""

    rewards: Tensor
    values: Tensor
    bootstrap: Tensor
    mask: Tensor
    ends: Tensor

    def gae(self, discounts: Discounts) -> Tensor:
        return ppo.gae(self.rewards, self.values, self.bootstrap, self.mask, self.ends, discounts)


def make_rows(seed: int = 0, gap: int = 3, filler: float = 0.0, terminated: bool = False) -> Rows:
    """Four rows of one to four turns of one to three tokens; the second turn's rewards are 0.

    ``gap`` is the number of user tokens before each turn; the numbers on action tokens depend on
    ``seed`` alone.
    """
    generator = torch.Generator().manual_seed(seed)
    rows: list[list[tuple[float, float, bool, bool]]] = []
    for _ in range(4):
        row: list[tuple[float, float, bool, bool]] = []
        for turn in range(int(torch.randint(1, 5, (), generator=generator))):
            row += [(filler, filler, False, False)] * gap
            length = int(torch.randint(1, 4, (), generator=generator))
            for token in range(length):
                reward, value = torch.randn(2, generator=generator, dtype=DOUBLE).tolist()
                row.append((0.0 if turn == 1 else reward, value, True, token == length - 1))
        rows.append(row)
    bootstrap = torch.randn(4, generator=generator, dtype=DOUBLE)
    width = max(map(len, rows)) + gap
    padded = [row + [(filler, filler, False, False)] * (width - len(row)) for row in rows]
    numbers = torch.tensor([[t[:2] for t in row] for row in padded], dtype=DOUBLE)
    masks = torch.tensor([[t[2:] for t in row] for row in padded])
    return Rows(
        numbers[..., 0],
        numbers[..., 1],
        bootstrap * 0 if terminated else bootstrap,
        masks[..., 0],
        masks[..., 1],
    )


def brute_force(rows: Rows, d: Discounts) -> Tensor:
    """A_j = sum_{k >= j} (prod_{j <= m < k} gamma_m lambda_m) delta_k, for every pair (j, k)."""
    out = torch.zeros_like(rows.values)
    for b in range(len(rows.values)):
        act = [t for t in range(rows.mask.shape[1]) if rows.mask[b, t]]
        gamma = [d.gamma_turn if rows.ends[b, t] else d.gamma_token for t in act]
        decay = [d.lambda_turn if rows.ends[b, t] else d.lambda_token for t in act]
        value = [float(rows.values[b, t]) for t in act] + [float(rows.bootstrap[b])]
        for j, k in itertools.combinations_with_replacement(range(len(act)), 2):
            delta = float(rows.rewards[b, act[k]]) + gamma[k] * value[k + 1] - value[k]
            weight = math.prod(gamma[m] * decay[m] for m in range(j, k))
            out[b, act[j]] += weight * delta
    return out


@pytest.mark.parametrize("terminated", [False, True])
@pytest.mark.parametrize(
    "discounts",
    [
        ANY,
        Discounts(),
        Discounts(0.9, 0.8, 0.9, 0.8),
        Discounts(1, 1, 0.5, 0),
        Discounts(1, 0, 1, 0),
    ],
)
def test_advantages_are_the_sum_over_all_later_errors(
    discounts: Discounts, terminated: bool
) -> None:
    rows = make_rows(terminated=terminated)
    torch.testing.assert_close(rows.gae(discounts), brute_force(rows, discounts))


def test_with_no_discount_across_replies_a_context_s_level_is_only_a_baseline() -> None:
    """What comparisons leave open, c_k of turn k's context, cancels in r + c - (V + c).

    Summed over turns (gamma_turn = 1) it would not: the first turn's advantage would hold c_2.
    """
    mask = torch.tensor([[True, True, False, True]])
    ends = torch.tensor([[False, True, False, True]])
    rewards = torch.tensor([[0.0, 0.5, 0.0, 0.25]])
    values = torch.tensor([[0.5, 0.125, 0.0, 1.0]])
    level = torch.tensor([[0.0, 8.0, 0.0, 16.0]])  # of a turn's context, paid with its last token
    known = torch.tensor([[8.0, 8.0, 0.0, 16.0]])  # and expected from its first token on

    def first(gamma: float, level: Tensor, known: Tensor) -> list[float]:
        d = Discounts(gamma_turn=gamma, lambda_turn=1.0)
        return ppo.gae(rewards + level, values + known, torch.zeros(1), mask, ends, d)[0].tolist()

    zero = torch.zeros_like(level)
    assert first(0, level, known) == first(0, zero, zero) == [0.0, 0.375, 0.0, -0.75]
    assert first(1, level, known)[0] - first(1, zero, zero)[0] == 16.0


def test_advantages_by_hand() -> None:
    """Two turns of two and one tokens; gamma and lambda are .5 across the gap, 1 inside a turn.

    A_3 = 4 + .5 * 8 - 2 = 6 (the bootstrap is 8 and the last token ends a turn).
    A_2 = 1 + .5 * 2 - 3 + .25 * 6 = .5, A_1 = 0 + 3 - 1 + .5 = 2.5.
    """
    nan = math.nan
    advantages = ppo.gae(
        torch.tensor([[nan, 0.0, 1.0, nan, nan, 4.0]]),
        torch.tensor([[nan, 1.0, 3.0, nan, nan, 2.0]]),
        torch.tensor([8.0]),
        torch.tensor([[False, True, True, False, False, True]]),
        torch.tensor([[False, False, True, False, False, True]]),
        Discounts(1.0, 1.0, 0.5, 0.5),
    )
    assert advantages.tolist() == [[0.0, 2.5, 0.5, 0.0, 0.0, 6.0]]


def test_equal_pairs_are_token_level_gae() -> None:
    """The textbook recursion over the action tokens alone, blind to turns."""
    rows = make_rows()
    out = rows.gae(Discounts(0.9, 0.7, 0.9, 0.7))
    for b in range(4):
        mask = rows.mask[b]
        rewards, values = rows.rewards[b, mask].tolist(), rows.values[b, mask].tolist()
        after, advantage, expected = float(rows.bootstrap[b]), 0.0, []
        for reward, value in zip(reversed(rewards), reversed(values), strict=True):
            advantage = reward + 0.9 * after - value + 0.9 * 0.7 * advantage
            after = value
            expected.insert(0, advantage)
        assert out[b, mask].tolist() == pytest.approx(expected)


def test_ones_inside_a_turn_are_turn_level_gae_at_first_tokens() -> None:
    """A turn's baseline is the value before its first token; its reward is the turn's sum."""
    rows = make_rows()
    out = rows.gae(Discounts(1.0, 1.0, 0.9, 0.7))
    for b in range(4):
        firsts, totals, total = [], [], 0.0
        new = True
        for t in range(rows.mask.shape[1]):
            if rows.mask[b, t]:
                if new:
                    firsts.append(t)
                total += float(rows.rewards[b, t])
                new = bool(rows.ends[b, t])
                if new:
                    totals.append(total)
                    total = 0.0
        after, advantage = float(rows.bootstrap[b]), 0.0
        for first, reward in zip(reversed(firsts), reversed(totals), strict=True):
            value = float(rows.values[b, first])
            advantage = reward + 0.9 * after - value + 0.9 * 0.7 * advantage
            after = value
            assert float(out[b, first]) == pytest.approx(advantage)


def test_all_ones_are_the_return_and_the_bootstrap_minus_the_baseline() -> None:
    rows = make_rows()
    out = rows.gae(Discounts(1.0, 1.0, 1.0, 1.0))
    for b in range(4):
        mask = rows.mask[b]
        rewards, values = rows.rewards[b, mask].tolist(), rows.values[b, mask].tolist()
        expected = [
            sum(rewards[j:]) + float(rows.bootstrap[b]) - values[j] for j in range(len(values))
        ]
        assert out[b, mask].tolist() == pytest.approx(expected)


def test_what_is_masked_and_how_much_of_it_changes_nothing() -> None:
    plain, other = make_rows(gap=3), make_rows(gap=11, filler=math.nan)
    expected, out = plain.gae(ANY), other.gae(ANY)
    assert torch.equal(out[other.mask], expected[plain.mask])
    assert bool((out[~other.mask] == 0).all())


def test_truncation_adds_the_discounted_bootstrap_and_termination_does_not() -> None:
    """The bootstrap reaches token j through every gamma between, at lambda = 1."""
    discounts = Discounts(0.9, 1.0, 0.5, 1.0)
    truncated, terminated = make_rows(), make_rows(terminated=True)
    difference = truncated.gae(discounts) - terminated.gae(discounts)
    for b in range(4):
        weight = 1.0
        for t in reversed(range(truncated.mask.shape[1])):
            if truncated.mask[b, t]:
                weight *= 0.5 if truncated.ends[b, t] else 0.9
                expected = weight * float(truncated.bootstrap[b])
                assert float(difference[b, t]) == pytest.approx(expected)
    assert float(truncated.bootstrap.abs().min()) > 0.01


def test_a_reward_is_the_score_at_the_end_of_a_turn_minus_the_price_of_kl() -> None:
    nan = math.nan
    out = ppo.rewards(
        torch.tensor([[0.0, 0.0, 3.0, 0.0, 0.0]]),
        torch.tensor([[nan, 0.5, -1.0, nan, 2.0]]),
        torch.tensor([[False, True, True, False, True]]),
        torch.tensor([[False, False, True, False, True]]),
        beta=0.1,
    )
    assert out[0].tolist() == pytest.approx([0.0, -0.05, 3.1, 0.0, -0.2])


@pytest.mark.parametrize("where", [0, 1, 3])
def test_a_score_that_is_not_on_a_turns_last_action_token_raises(where: int) -> None:
    """On the prompt (0), inside a turn (1), on the user's reply (3)."""
    mask = torch.tensor([[False, True, True, False]])
    ends = torch.tensor([[False, False, True, False]])
    scores = torch.zeros(1, 4)
    scores[0, where] = 1.0
    with pytest.raises(ValueError, match="last action token"):
        ppo.rewards(scores, torch.zeros(1, 4), mask, ends, 0.1)


def test_a_turn_that_ends_on_a_token_nobody_sampled_raises() -> None:
    mask = torch.tensor([[False, True, False]])
    ends = torch.tensor([[False, False, True]])
    with pytest.raises(ValueError, match="action token"):
        ppo.rewards(torch.zeros(1, 3), torch.zeros(1, 3), mask, ends, 0.1)


def test_k1_and_k3_are_the_kl_in_expectation_and_k3_is_never_negative() -> None:
    """Summed over a vocabulary of five with the policy's own probabilities."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        p, q = torch.randn(2, 5, generator=generator, dtype=DOUBLE).mul(2).log_softmax(-1)
        kl = sum(math.exp(a) * (a - b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
        assert float((p.exp() * ppo.k1(p, q)).sum()) == pytest.approx(kl)
        assert float((p.exp() * ppo.k3(p, q)).sum()) == pytest.approx(kl)
        assert bool((ppo.k3(p, q) >= 0).all())
    assert ppo.k1(torch.tensor(-1.0), torch.tensor(-3.0)).item() == 2.0
    assert ppo.k3(torch.tensor(-1.0), torch.tensor(-3.0)).item() == pytest.approx(math.exp(-2) + 1)
    assert math.isfinite(ppo.k3(torch.tensor(-500.0), torch.tensor(0.0)).item())


# A conversation of up to three turns, small enough to enumerate. The agent speaks tokens 0, 1 and
# 2 = end of turn, two at most a turn; the user answers by what was said so far, and may hang up.
END, LENGTH, TURNS = 2, 2, 3
History = tuple[tuple[int, ...], ...]  # the turns so far


def legal(turn: tuple[int, ...]) -> bool:
    return len(turn) < LENGTH and END not in turn


def score(history: History) -> float:
    """Of the last turn: arbitrary, and 0 in the second one."""
    return 0.0 if len(history) == 2 else math.sin(1 + 7 * hash_of(history))


def hangs_up(history: History) -> bool:
    return len(history) == TURNS or hash_of(history) % 4 == 0


def hash_of(history: History) -> int:
    number = 0
    for turn in history:
        for token in (*turn, 3):
            number = (number * 5 + token + 1) % 1009
    return number


class Tabular:
    """A softmax policy with its own logits in each state (history, tokens of this turn)."""

    def __init__(self) -> None:
        self.states: list[tuple[History, tuple[int, ...]]] = []
        self._find(())
        generator = torch.Generator().manual_seed(3)
        self.logits = torch.randn(len(self.states), 3, generator=generator, dtype=DOUBLE)
        self.logits.requires_grad_()
        self.place = {state: i for i, state in enumerate(self.states)}
        self.worth: dict[tuple[History, tuple[int, ...]], float] = {}

    def _find(self, history: History) -> None:
        for turn in [(), (0,), (1,)]:
            self.states.append((history, turn))
        for turn in self.turns():
            if not hangs_up((*history, turn)):
                self._find((*history, turn))

    @staticmethod
    def turns() -> list[tuple[int, ...]]:
        return [(END,), *itertools.product((0, 1), (0, 1, END))]

    def episodes(self, history: History = ()) -> list[History]:
        """All of them."""
        out: list[History] = []
        for turn in self.turns():
            longer = (*history, turn)
            out += [longer] if hangs_up(longer) else self.episodes(longer)
        return out

    def logprobs(self, episode: History) -> list[Tensor]:
        """Of each action token."""
        table = self.logits.log_softmax(-1)
        return [
            table[self.place[episode[:k], turn[:j]], turn[j]]
            for k, turn in enumerate(episode)
            for j in range(len(turn))
        ]

    def value(self, history: History, turn: tuple[int, ...]) -> float:
        """The exact expected score to come before the next token."""
        if (history, turn) not in self.worth:
            probabilities = self.logits.detach().softmax(-1)[self.place[history, turn]].tolist()
            total = 0.0
            for token, probability in enumerate(probabilities):
                said = (*turn, token)
                if legal(said):
                    total += probability * self.value(history, said)
                    continue
                after = (*history, said)
                future = 0.0 if hangs_up(after) else self.value(after, ())
                total += probability * (score(after) + future)
            self.worth[history, turn] = total
        return self.worth[history, turn]


@dataclass(frozen=True)
class Enumerated:
    table: Tabular
    episodes: list[History]
    probabilities: Tensor
    exact: Tensor  # the gradient of the expected return


@pytest.fixture(scope="module")
def enumerated() -> Enumerated:
    table = Tabular()
    episodes = table.episodes()
    chances = torch.stack([torch.stack(table.logprobs(e)).sum().exp() for e in episodes])
    returns = torch.tensor(
        [sum(score(e[: k + 1]) for k in range(len(e))) for e in episodes], dtype=DOUBLE
    )
    (exact,) = torch.autograd.grad((chances * returns).sum(), table.logits)
    return Enumerated(table, episodes, chances.detach(), exact)


def expected_estimator(
    world: Enumerated, discounts: Discounts, exact_values: bool, turns: int = TURNS
) -> Tensor:
    """Sum over all episodes of probability times what our functions make of the episode.

    Episodes that last longer than ``turns`` are truncated there and bootstrapped.
    """
    table = world.table
    total = torch.zeros_like(table.logits)
    for episode, chance in zip(world.episodes, world.probabilities, strict=True):
        said = episode[:turns]
        mask, ends, scores, values = [], [], [], []
        for k, turn in enumerate(said):
            words = 1 + hash_of(said[:k]) % 3  # of the user, before the turn
            mask += [False] * words + [True] * len(turn)
            ends += [False] * (words + len(turn) - 1) + [True]
            scores += [0.0] * (words + len(turn) - 1) + [score(said[: k + 1])]
            values += [math.nan] * words
            values += [table.value(said[:k], turn[:j]) for j in range(len(turn))]
        act = torch.tensor([mask])
        bootstrap = table.value(said, ()) if len(said) < len(episode) else 0.0
        v = torch.tensor([values], dtype=DOUBLE)
        logprobs = torch.stack(table.logprobs(said))
        advantages = ppo.gae(
            ppo.rewards(
                torch.tensor([scores], dtype=DOUBLE), v, act, torch.tensor([ends]), beta=0.0
            ).where(act, math.nan),
            v if exact_values else torch.zeros_like(v),
            torch.tensor([bootstrap], dtype=DOUBLE),
            act,
            torch.tensor([ends]),
            discounts,
        )[act]
        loss = ppo.policy_loss(logprobs, logprobs.detach(), advantages, Clip(), 1.0).loss
        (gradient,) = torch.autograd.grad(-chance * loss, table.logits)
        total += gradient
    return total


def test_the_enumeration_is_complete(enumerated: Enumerated) -> None:
    assert float(enumerated.probabilities.sum()) == pytest.approx(1.0)
    assert {len(e) for e in enumerated.episodes} == {1, 2, 3}
    assert len(enumerated.episodes) > 50
    assert float(enumerated.exact.abs().max()) > 0.01


@pytest.mark.parametrize("exact_values", [False, True])
def test_monte_carlo_is_the_policy_gradient_in_expectation(
    enumerated: Enumerated, exact_values: bool
) -> None:
    """With any baseline, none included."""
    out = expected_estimator(enumerated, Discounts(1, 1, 1, 1), exact_values)
    torch.testing.assert_close(out, enumerated.exact)


@pytest.mark.parametrize("token", [1.0, 0.6, 0.0])
@pytest.mark.parametrize("turn", [0.95, 0.3, 0.0])
def test_lambda_below_one_is_the_policy_gradient_given_exact_values(
    enumerated: Enumerated, token: float, turn: float
) -> None:
    out = expected_estimator(enumerated, Discounts(1, token, 1, turn), True)
    torch.testing.assert_close(out, enumerated.exact)


@pytest.mark.parametrize("turns", [1, 2])
def test_a_truncated_episodes_gradient_is_exact_given_the_exact_bootstrap(
    enumerated: Enumerated, turns: int
) -> None:
    out = expected_estimator(enumerated, Discounts(1, 1, 1, 0.5), True, turns)
    played = torch.tensor([len(history) < turns for history, _ in enumerated.table.states])
    torch.testing.assert_close(out[played], enumerated.exact[played])
    assert bool((out[~played] == 0).all())


def test_the_baseline_of_a_turn_is_what_the_others_had_to_come() -> None:
    """Turn 0 of group 7: (2 + 6) / 2, (1 + 6) / 2, (1 + 2) / 2; of turn 1, which two reached: the
    other's; of turn 2, which one reached: nobody's. Group 3 holds one episode."""
    unused = math.nan
    to_go = torch.tensor(
        [[1.0, 4.0, unused], [5.0, 5.0, 5.0], [2.0, unused, unused], [6.0, 8.0, 9.0]]
    )
    out = ppo.others_mean(to_go, ~to_go.isnan(), torch.tensor([7, 3, 7, 7]))
    assert out[[0, 1, 2, 3], 0].tolist() == [4.0, 0.0, 3.5, 1.5]
    assert out[[0, 1, 3], 1].tolist() == [8.0, 0.0, 4.0]
    assert out[[1, 3], 2].tolist() == [0.0, 0.0]


def test_whitening_by_hand() -> None:
    """1, 2, 3, 6 have mean 3 and biased std sqrt(14/4)."""
    x = torch.tensor([[1.0, math.nan, 2.0], [3.0, 6.0, math.inf]])
    mask = torch.tensor([[True, False, True], [True, True, False]])
    s = math.sqrt(3.5)
    out = ppo.whiten(x, mask, 0.1)
    torch.testing.assert_close(out, torch.tensor([[-2 / s, 0, -1 / s], [0, 3 / s, 0]]))


def test_whitening_does_not_blow_up_noise() -> None:
    """The std, .01, is below the floor, .1."""
    x = torch.tensor([[0.99, 1.01]])
    everything = torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(ppo.whiten(x, everything, 0.1), torch.tensor([[-0.1, 0.1]]))
    assert ppo.whiten(torch.full((1, 2), 3.0), everything, 0.1).tolist() == [[0.0, 0.0]]


def test_whitening_sums_over_ranks() -> None:
    """Two ranks, simulated: the other's sums are added."""
    mine = torch.tensor([[1.0, 2.0]])  # they hold 3 and 6
    # Their count and total, and then their squares about the common mean, 3.
    sums = iter([torch.tensor([2.0, 3.0 + 6.0]), torch.tensor((3.0 - 3.0) ** 2 + (6.0 - 3.0) ** 2)])
    both = ppo.whiten(mine, torch.ones(1, 2, dtype=torch.bool), 0.1, lambda x: x + next(sums))
    s = math.sqrt(3.5)
    torch.testing.assert_close(both, torch.tensor([[-2 / s, -1 / s]]))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, 0),
        (1.5, 2.0, -2.56, 1),  # held at 1.28
        (0.5, 2.0, -1.0, 0),  # a falling good token is not held
        (0.5, -2.0, 1.6, 1),  # held at 0.8
        (1.5, -2.0, 3.0, 0),
        (5.0, -2.0, 6.0, 0),  # dual clip: at most 3 * 2
        (5.0, 2.0, -2.56, 1),
    ],
)
def test_the_clipped_surrogate_by_hand(
    ratio: float, advantage: float, loss: float, clipped: int
) -> None:
    old = torch.tensor([-2.0], dtype=DOUBLE)
    new = (old + math.log(ratio)).requires_grad_()
    out = ppo.policy_loss(new, old, torch.tensor([advantage], dtype=DOUBLE), Clip(), 4.0)
    assert out.loss.item() == pytest.approx(loss / 4)
    assert int(out.clipped) == clipped
    assert float(out.ratio_sum) == pytest.approx(ratio)
    assert float(out.kl_update) == pytest.approx(ratio - 1 - math.log(ratio))
    (gradient,) = torch.autograd.grad(out.loss, new)
    moves = not clipped and not (ratio == 5.0 and advantage < 0)
    # d(-rho A)/d(log pi) = -rho A, and nothing where the bound holds.
    assert float(gradient) == pytest.approx(-ratio * advantage / 4 if moves else 0.0)


def test_the_dual_clip_can_be_off() -> None:
    old, new = torch.tensor([-2.0]), torch.tensor([-2.0 + math.log(5)])
    out = ppo.policy_loss(new, old, torch.tensor([-2.0]), Clip(dual=0.0), 1.0)
    assert float(out.loss) == pytest.approx(10.0)


def test_the_log_ratio_is_bounded() -> None:
    old, new = torch.tensor([-500.0, 0.0]), torch.tensor([0.0, -500.0])
    out = ppo.policy_loss(new, old, torch.tensor([-1.0, -1.0]), Clip(dual=0.0), 1.0)
    assert float(out.loss) == pytest.approx(math.exp(20) + 0.8, rel=1e-6)


def test_weights_multiply_each_tokens_loss() -> None:
    old = torch.tensor([-1.0, -1.0])
    weights = torch.tensor([0.5, 2.0])
    out = ppo.policy_loss(old, old, torch.tensor([1.0, 3.0]), Clip(), 2.0, weights)
    assert float(out.loss) == pytest.approx(-(0.5 * 1 + 2 * 3) / 2)


def test_importance_weights_are_bounded_ratios() -> None:
    trained = torch.tensor([-1.0, -1.0, -1.0, 0.0])
    sampled = torch.tensor([-1.0, -1.0 - math.log(1.5), -1.0 - math.log(3), -500.0])
    out = ppo.importance_weights(trained, sampled)
    torch.testing.assert_close(out, torch.tensor([1.0, 1.5, 2.0, 2.0]))
    below = ppo.importance_weights(torch.tensor([-1.0]), torch.tensor([-1.0 + math.log(4)]))
    torch.testing.assert_close(below, torch.tensor([0.25]))


def test_value_loss_by_hand() -> None:
    """Errors 1 and 3 without the clip; with it the second step, of 4, is credited 1: error 6."""
    new, old = torch.tensor([2.0, 5.0]), torch.tensor([2.0, 1.0])
    returns = torch.tensor([1.0, 8.0])
    assert float(ppo.value_loss(new, old, returns, 0.0, 4.0)) == (1 + 9) / 2 / 4
    assert float(ppo.value_loss(new, old, returns, 1.0, 4.0)) == (1 + 36) / 2 / 4


def test_explained_variance_by_hand() -> None:
    """Returns 0, 2, 4 vary by 8/3; a third of their spread is left over: 1 - 1/9."""
    mask = torch.tensor([[True, True, True, False]])
    returns = torch.tensor([[0.0, 2.0, 4.0, math.nan]])

    def explained(values: list[float]) -> float:
        return ppo.explained_variance(torch.tensor([values]), returns, mask)

    assert explained([0.0, 2.0, 4.0, 9.0]) == 1.0
    assert explained([5.0, 5.0, 5.0, 9.0]) == pytest.approx(0.0)
    assert explained([0.0, 4 / 3, 8 / 3, 9.0]) == pytest.approx(1 - 1 / 9)
    assert explained([4.0, 2.0, 0.0, 9.0]) == pytest.approx(-3.0)
    assert ppo.explained_variance(returns, torch.ones(1, 4), mask) == 0.0


def test_adaptive_beta_by_hand() -> None:
    """10% above the target with 50 of 1000 episodes: .1 (1 + .1 * .05); far off: .2 at most."""
    assert ppo.adapt_beta(0.1, 0.011, 0.01, 50, 1000) == pytest.approx(0.1005)
    assert ppo.adapt_beta(0.1, 5.0, 0.01, 50, 1000) == pytest.approx(0.101)
    assert ppo.adapt_beta(0.1, -1.0, 0.01, 50, 1000) == pytest.approx(0.099)
    assert ppo.adapt_beta(0.1, 0.01, 0.01, 50, 1000) == pytest.approx(0.1)


class OnApple:
    """A tensor on a device without double precision."""

    device = SimpleNamespace(type="mps")

    def __init__(self, x: torch.Tensor):
        self.x = x

    def cpu(self) -> torch.Tensor:
        return self.x

    def double(self) -> torch.Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")


def test_what_a_device_cannot_hold_is_computed_on_the_cpu() -> None:
    x = torch.tensor([0.1, 3.0])
    for place in (x, OnApple(x)):
        wide = ppo.wide(place)  # type: ignore[arg-type]
        assert wide.dtype == torch.float64 and torch.equal(wide, x.double())


def test_double_precision_is_asked_for_in_one_place() -> None:
    """Where a tensor may lie on a device that has none; the critic lies on the CPU."""
    rooms = Path(ppo.__file__).parents[1]
    asking = {
        path.name
        for path in rooms.rglob("*.py")
        if path.parent.name != "statistics"  # which knows no tensors
        if ".double()" in path.read_text("utf-8") or "float64" in path.read_text("utf-8")
    }
    assert asking == {"ppo.py", "critic.py"}
