"""Who calls: how much they say, how long they stay, what they forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Persona:
    """A manner of being a customer.

    ``patience`` counts the turns that may pass without progress. ``forgets`` is the probability
    that a fact has to be looked up first and asked for once more.
    """

    name: str
    split: str
    patience: int
    terse: bool = False
    chatty: float = 0.0  # probability of an aside in a message
    annoyed: float = 0.0  # probability of a grumble in a message
    forgets: float = 0.0


PERSONAS: dict[str, Persona] = {
    p.name: p
    for p in (
        Persona("terse", "train", patience=5, terse=True),
        Persona("chatty", "train", patience=6, chatty=0.7),
        Persona("annoyed", "train", patience=4, annoyed=0.6),
        Persona("forgetful", "train", patience=6, forgets=0.5),
        Persona("hurried", "dev", patience=4, terse=True, annoyed=0.3),
        Persona("rambling", "dev", patience=6, chatty=0.9),
        Persona("scatterbrained", "dev", patience=6, chatty=0.3, forgets=0.5),
        Persona("laconic", "test", patience=4, terse=True, forgets=0.1),
        Persona("talkative", "test", patience=6, chatty=0.8, forgets=0.1),
        Persona("grumpy", "test", patience=4, annoyed=0.8, chatty=0.2),
        Persona("absent-minded", "test", patience=7, forgets=0.6),
    )
}


def choose_personas(split: str, names: Sequence[str]) -> tuple[Persona, ...]:
    """The personas of a split, or those named.

    Raises:
        ValueError: a name that no persona has.
    """
    unknown = [n for n in names if n not in PERSONAS]
    if unknown:
        raise ValueError(f"expected users out of {', '.join(PERSONAS)}; got {unknown[0]!r}")
    if names:
        return tuple(PERSONAS[n] for n in names)
    return tuple(p for p in PERSONAS.values() if p.split == split)
