"""The fewest questions that can do: a bound from set sizes, and a tree that reaches it.

A question is an attribute (yes or no) or a guess (which ends the game if it is right). All things
are equally likely, and the right guess counts as a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from rlchat_envs.scenarios.games.things import load_things


@dataclass(frozen=True, slots=True)
class Leaf:
    """Few enough things to guess one after the other."""

    things: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """An attribute to ask for, and how to go on."""

    attribute: str
    yes: Tree
    no: Tree


Tree: TypeAlias = Leaf | Node


@cache
def least_total(count: int) -> int:
    """The least sum of questions over ``count`` things, whatever attributes they have.

    By dynamic programming over set sizes: a guess leaves one thing fewer, a question splits a set
    in two, and either is asked of all of them: F(n) = n + min(F(n-1), min_k F(k) + F(n-k)).
    """
    if count <= 1:
        return count
    # F is convex, and so the even split is the best; a test compares all of them.
    split = least_total(count // 2) + least_total(count - count // 2)
    return count + min(split, least_total(count - 1))


def total(tree: Tree, depth: int = 0) -> int:
    """The sum of questions over the things of a tree that stands ``depth`` questions deep."""
    if isinstance(tree, Leaf):
        return sum(depth + place for place in range(1, len(tree.things) + 1))
    return total(tree.yes, depth + 1) + total(tree.no, depth + 1)


def questions(tree: Tree, depth: int = 0) -> dict[str, int]:
    """How many questions a tree takes for each of its things."""
    if isinstance(tree, Leaf):
        return {thing: depth + place for place, thing in enumerate(tree.things, 1)}
    return questions(tree.yes, depth + 1) | questions(tree.no, depth + 1)


def grow(things: Sequence[str], attributes: Mapping[str, frozenset[str]]) -> Tree | None:
    """Find a tree whose total is `least_total`, or None if these attributes allow none.

    Depth-first search over the splits that lose nothing, the most even ones first; sets that
    cannot be split so are remembered.
    """
    barren: set[frozenset[str]] = set()

    def tree(left: frozenset[str]) -> Tree | None:
        if least_total(len(left)) == total(guesses := Leaf(tuple(sorted(left)))):
            return guesses
        if left in barren:
            return None
        for name, yes in _lossless(left, attributes):
            if (first := tree(yes)) and (second := tree(left - yes)):
                return Node(name, first, second)
        barren.add(left)
        return None

    return tree(frozenset(things))


@cache
def best_tree() -> Tree:
    """The tree of our own graph, found in some milliseconds; a test holds it to the bound."""
    things = load_things()
    tree = grow(things.names, {a.name: a.things for a in things.attributes.values()})
    assert tree is not None, "the attributes no longer allow an optimal tree"
    return tree


def _lossless(
    left: frozenset[str], attributes: Mapping[str, frozenset[str]]
) -> list[tuple[str, frozenset[str]]]:
    """The attributes that split a set so that the bound can still be reached."""
    splits = {name: left & things for name, things in attributes.items()}
    found = [
        (name, yes)
        for name, yes in splits.items()
        if 0 < len(yes) < len(left)
        and len(left) + least_total(len(yes)) + least_total(len(left) - len(yes))
        == least_total(len(left))
    ]
    return sorted(found, key=lambda pair: abs(len(left) - 2 * len(pair[1])))
