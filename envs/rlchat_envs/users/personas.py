"""Who talks to the agent: families of users, and the manner in which each says what it has to."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

FAMILIES: dict[str, str] = {
    "agenda": "says what it is asked, plainly",
    "terse": "says it in a word or two",
    "chatty": "says it among other things",
    "impatient": "grumbles, and leaves early",
    "noisy": "mistypes, drops words and runs sentences together",
    "forgetful": "has to look things up, and corrects what it said wrongly",
    "adversarial": "leads the agent off its task, and asks for what it must not do",
}
USUAL = ("terse", "chatty", "impatient", "forgetful")  # who comes if nobody is named


@dataclass(frozen=True, slots=True)
class Persona:
    """A manner of being a user; all but the first four fields are probabilities or off.

    ``patience`` counts the turns that may pass without progress.
    """

    name: str
    family: str
    split: str
    patience: int
    terse: bool = False
    chatty: float = 0.0  # of an aside in a message
    annoyed: float = 0.0  # of a grumble in a message
    forgets: float = 0.0  # of having to look a fact up first, and being asked once more
    contradicts: float = 0.0  # of telling a fact wrongly first, and putting it right afterwards
    noise: float = 0.0  # of a slip in a word
    tempts: float = 0.0  # of a temptation in a message


PERSONAS: dict[str, Persona] = {
    p.name: p
    for p in (
        Persona("plain", "agenda", "train", patience=6),
        Persona("direct", "agenda", "dev", patience=5),
        Persona("matter-of-fact", "agenda", "test", patience=7),
        Persona("terse", "terse", "train", patience=5, terse=True),
        Persona("hurried", "terse", "dev", patience=4, terse=True, annoyed=0.3),
        Persona("laconic", "terse", "test", patience=4, terse=True, forgets=0.1),
        Persona("chatty", "chatty", "train", patience=6, chatty=0.7),
        Persona("rambling", "chatty", "dev", patience=6, chatty=0.9),
        Persona("talkative", "chatty", "test", patience=6, chatty=0.8, forgets=0.1),
        Persona("annoyed", "impatient", "train", patience=4, annoyed=0.6),
        Persona("restless", "impatient", "dev", patience=4, annoyed=0.7, chatty=0.1),
        Persona("grumpy", "impatient", "test", patience=4, annoyed=0.8, chatty=0.2),
        Persona("sloppy", "noisy", "train", patience=6, noise=0.12),
        Persona("hasty", "noisy", "dev", patience=5, noise=0.1, annoyed=0.1),
        Persona("all-thumbs", "noisy", "test", patience=6, noise=0.15, chatty=0.1),
        Persona("forgetful", "forgetful", "train", patience=6, forgets=0.4, contradicts=0.2),
        Persona(
            "scatterbrained",
            "forgetful",
            "dev",
            patience=6,
            chatty=0.3,
            forgets=0.3,
            contradicts=0.25,
        ),
        Persona("absent-minded", "forgetful", "test", patience=7, forgets=0.5, contradicts=0.25),
        Persona("pushy", "adversarial", "train", patience=6, tempts=0.6),
        Persona("sly", "adversarial", "dev", patience=6, tempts=0.6, chatty=0.2),
        Persona("scheming", "adversarial", "test", patience=6, tempts=0.7, annoyed=0.2),
    )
}


def choose_personas(split: str, families: Sequence[str]) -> tuple[Persona, ...]:
    """The personas of one side that belong to the named families, or to the usual ones.

    Raises:
        ValueError: a name that no family has.
    """
    unknown = [n for n in families if n not in FAMILIES]
    if unknown:
        raise ValueError(f"expected users out of {', '.join(FAMILIES)}; got {unknown[0]!r}")
    wanted = families or USUAL
    return tuple(p for p in PERSONAS.values() if p.split == split and p.family in wanted)


@dataclass
class Manner:
    """Puts lines the way a persona would: grumbles before, asides and temptations after, slips.

    ``talk`` has the lists ``grumbles``, ``asides`` and ``temptations``; a scenario gives its own
    or takes `small_talk`.
    """

    persona: Persona
    rng: np.random.Generator
    talk: Mapping[str, Sequence[str]]

    def pick(self, lines: Sequence[str]) -> str:
        """Choose one of some wordings."""
        return lines[int(self.rng.integers(len(lines)))]

    def put(self, line: str, kept: Sequence[str] = ()) -> str:
        """Dress a line; slips spare the pieces in ``kept``, and whatever holds a digit."""
        persona = self.persona
        if self.rng.random() < persona.annoyed:
            line = f"{self.pick(self.talk['grumbles'])} {line}"
        if self.rng.random() < persona.chatty:
            line = f"{line} {self.pick(self.talk['asides'])}"
        if persona.tempts and self.rng.random() < persona.tempts:
            line = f"{line} {self.pick(self.talk['temptations'])}"
        return slips(line, persona.noise, self.rng, kept) if persona.noise else line


@cache
def small_talk(split: str) -> dict[str, list[str]]:
    """Grumbles, asides and off-task temptations of one side, for users of any scenario."""
    text = resources.files(__package__).joinpath("small_talk.toml").read_text("utf-8")
    return dict(tomllib.loads(text)[split])


_SMALL = frozenset(
    ("a", "an", "the", "is", "are", "am", "of", "to", "and", "that", "it", "for", "my", "i", "was")
)


def slips(text: str, rate: float, rng: np.random.Generator, kept: Sequence[str] = ()) -> str:
    """Mistype a text: letters exchanged, lost or doubled, small words dropped, stops run over.

    Args:
        text: what is meant.
        rate: probability of a slip, a word.
        rng: decides.
        kept: pieces that are written right, as what they say could be lost; whatever holds a
            digit is, too.
    """
    spared = [re.escape(piece) for piece in sorted(kept, key=len, reverse=True) if piece]
    parts = re.split("(" + "|".join([*spared, r"\S*\d\S*"]) + ")", text)
    mistyped = (p if i % 2 else _mistype(p, rate, rng) for i, p in enumerate(parts))
    return re.sub(r"  +", " ", "".join(mistyped)).strip() or text


def _mistype(text: str, rate: float, rng: np.random.Generator) -> str:
    return re.sub(r"[^\W\d_]+|[.,;!]", lambda m: _slip(m.group(), rate, rng), text)


def _slip(word: str, rate: float, rng: np.random.Generator) -> str:
    if rng.random() >= rate:
        return word
    if not word[0].isalpha():
        return ""  # a stop is run over
    if word.lower() in _SMALL:
        return ""
    if len(word) < 4:
        return word.lower()
    at, kind = int(rng.integers(1, len(word) - 1)), rng.integers(3)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + (word[at + 1 :] if kind == 1 else word[at] + word[at:])
