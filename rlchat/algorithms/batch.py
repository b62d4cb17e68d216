"""From trajectories to what an update needs: packed, annotated, estimated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from rlchat.algorithms.critic import PRIVILEGED, hash_privileged
from rlchat.rollout.trajectory import Trajectory


@dataclass(frozen=True)
class Batch:
    """Episodes as right-padded rows. B episodes, T tokens, K turns.

    ``cached_states`` holds the states of a row's tokens but the last, and ``sampled_states``
    (A, 2, D) those that its A action tokens were drawn from, where the rollout kept them.
    ``scores`` (B, T) lie on each turn's last action token, unscaled. ``turns`` (B, T) is -1 where
    nobody acts. ``privileged`` is (B, K or K + 1, PRIVILEGED). ``index`` (B,) is the episode's
    number in the iteration, over all ranks. ``envs`` are the names of the rows' environments, empty
    where all are of one. ``begins`` says for each row where its contexts begin, each of which is
    read from its own beginning; empty where each row is one.
    """

    ids: Tensor
    lengths: Tensor
    action_mask: Tensor
    turn_end: Tensor
    turns: Tensor
    scores: Tensor
    sampled_logprobs: Tensor
    terminated: Tensor
    index: Tensor
    privileged: Tensor
    cached_states: list[Tensor | None]
    sampled_states: list[Tensor | None]
    envs: tuple[str, ...] = ()
    begins: tuple[tuple[int, ...], ...] = ()

    def contexts(self, rows: Tensor) -> Contexts:
        """The contexts of some rows, row by row."""
        ids, counts, begins = [], [], []
        for b in rows.tolist():
            own = self.begins[b] if self.begins else (0,)
            ends = [*own[1:], int(self.lengths[b])]
            ids += [self.ids[b, begin:end] for begin, end in zip(own, ends, strict=True)]
            counts.append(len(own))
            begins.append(own)
        return Contexts(ids, counts, begins)

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.lengths.sum())


@dataclass(frozen=True)
class Contexts:
    """What a forward reads of some rows.

    ``ids`` are the token ids of each context, ``counts`` how many contexts each row has, and
    ``begins`` where they begin in it.
    """

    ids: list[Tensor]
    counts: list[int]
    begins: list[tuple[int, ...]]

    def places(self, row: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """The context of each of these tokens (N,) of these rows (N,), and the place in it."""
        if len(self.ids) == len(self.counts):
            return row, token
        firsts = torch.tensor([0, *self.counts[:-1]]).cumsum(0)
        context, place = torch.empty_like(row), torch.empty_like(token)
        for r, begins in enumerate(map(torch.tensor, self.begins)):
            own = row == r
            within = torch.bucketize(token[own], begins, right=True) - 1
            context[own], place[own] = firsts[r] + within, token[own] - begins[within]
        return context, place

    def joined(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """What each context has, (T, …), as what each row has."""
        dealt = _dealt(parts, self.counts)
        return [own[0] if len(own) == 1 else torch.cat(list(own)) for own in dealt]

    def parted(self, wholes: Sequence[Tensor]) -> list[Tensor]:
        """What each row has, (T, …), as what each context has."""
        lengths = _dealt([len(ids) for ids in self.ids], self.counts)
        return [
            part
            for whole, own in zip(wholes, lengths, strict=True)
            for part in whole.split(list(own))
        ]


Part = TypeVar("Part")


def _dealt(parts: Sequence[Part], counts: Sequence[int]) -> Iterator[Sequence[Part]]:
    """The first so many parts, the next so many, and so on."""
    begin = 0
    for count in counts:
        yield parts[begin : begin + count]
        begin += count


def pack(trajectories: Sequence[Trajectory]) -> Batch:
    """Lay trajectories side by side, one row each."""
    rows, width = len(trajectories), max(len(t.ids) for t in trajectories)
    ids = torch.zeros(rows, width, dtype=torch.long)
    turns = torch.full((rows, width), -1)
    sampled = torch.zeros(rows, width)
    scores = torch.zeros(rows, width)
    turn_end = torch.zeros(rows, width, dtype=torch.bool)
    most = max(len(t.privileged) for t in trajectories)
    privileged = torch.zeros(rows, most, PRIVILEGED)
    for b, trajectory in enumerate(trajectories):
        length = len(trajectory.ids)
        ids[b, :length] = torch.tensor(trajectory.ids)
        turns[b, :length] = torch.tensor(trajectory.turns)
        sampled[b, :length] = torch.tensor(trajectory.sampled_logprobs)
        for k, parts in enumerate(trajectory.parts):
            last = int((turns[b] == k).nonzero()[-1])
            scores[b, last] = sum(parts.values())
            turn_end[b, last] = True
        for k, facts in enumerate(trajectory.privileged):
            privileged[b, k] = hash_privileged({**facts, "turn": k})  # no environment needs to tell
    return Batch(
        ids=ids,
        lengths=torch.tensor([len(t.ids) for t in trajectories]),
        action_mask=turns >= 0,
        turn_end=turn_end,
        turns=turns,
        scores=scores,
        sampled_logprobs=sampled,
        terminated=torch.tensor([t.terminated for t in trajectories]),
        index=torch.tensor([t.index for t in trajectories]),
        privileged=privileged,
        cached_states=[t.cached_states for t in trajectories],
        sampled_states=[t.sampled_states for t in trajectories],
        envs=tuple(t.env for t in trajectories),
        begins=tuple(tuple(t.begins) for t in trajectories),
    )


def microbatches(lengths: Tensor, budget: int) -> Iterator[Tensor]:
    """Deal rows to as few forwards as hold at most ``budget`` tokens each, one row at least."""
    forward: list[int] = []
    tokens = 0
    for row, length in enumerate(lengths.tolist()):
        if forward and tokens + length > budget:
            yield torch.tensor(forward)
            forward, tokens = [], 0
        forward.append(row)
        tokens += length
    if forward:
        yield torch.tensor(forward)


@dataclass(frozen=True, slots=True)
class Positions:
    """Action tokens of some rows: (N,) row in the microbatch, and (N,) place of the token."""

    row: Tensor
    token: Tensor


def action_positions(batch: Batch, rows: Tensor) -> Positions:
    """Find the action tokens of these rows, row by row."""
    row, token = batch.action_mask[rows].nonzero(as_tuple=True)
    return Positions(row, token)
