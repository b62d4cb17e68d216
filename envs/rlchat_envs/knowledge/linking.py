"""Entity linking: the things that a text names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from rlchat_envs.nlu.words import singular, stop_words, words

MENDED = 6  # letters that a word must have for a slip in it to be forgiven
_ARTICLES = {"a", "an", "the"}

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mention:
    """A thing that a text names in its words ``start`` up to, but without, ``stop``."""

    thing: str
    start: int
    stop: int


class Names:
    """What things are called.

    Names are found as whole words in any case, with or without accents, in singular or plural. In
    a word of six letters or more that no name has, one slip behind the first letter is forgiven:
    a letter too many, missing, wrong or misplaced. Where names overlap, the longest from the left
    is meant.
    """

    def __init__(self, names: Iterable[tuple[str, str]]):
        """Take pairs of name and thing; of two things with one name the first has it.

        Names without a word that means something (stop words, bare numbers) are never found.
        """
        self._things: dict[Key, str] = {}
        for name, thing in names:
            if key := _key(name):
                self._things.setdefault(key, thing)
        self._longest = max(map(len, self._things), default=0)
        self._known = {word for key in self._things for word in key}
        self._slips: dict[str, set[str]] = {}
        for word in (w for w in self._known if len(w) >= MENDED):
            for spelling in _slips(word):
                self._slips.setdefault(spelling, set()).add(word)

    def find(self, said: Sequence[str]) -> list[Mention]:
        """Find the things named in a text's words, in order."""
        readings = [self._readings(singular(word)) for word in said]
        found: list[Mention] = []
        at = 0
        while at < len(said):
            mention = self._mention(readings, at)
            at = mention.stop if mention else at + 1
            found += [mention] if mention else []
        return found

    def _mention(self, readings: list[Key], start: int) -> Mention | None:
        for stop in range(min(start + self._longest, len(readings)), start, -1):
            for key in product(*readings[start:stop]):
                if key in self._things:
                    return Mention(self._things[key], start, stop)
        return None

    def _readings(self, word: str) -> Key:
        """The words of names that a word may stand for."""
        if word in self._known:
            return (word,)
        if len(word) < MENDED - 1:
            return ()
        near = {known for spelling in _slips(word) for known in self._slips.get(spelling, ())}
        return tuple(sorted(near))


def _key(name: str) -> Key:
    said = words(name)
    while said and said[0] in _ARTICLES:
        said = said[1:]
    telling = [w for w in said if w not in stop_words() and not w[0].isdigit()]
    return tuple(singular(word) for word in said) if telling else ()


def _slips(word: str) -> set[str]:
    """A word, and what is left of it without one of its letters behind the first.

    Two words share one of these if a single slip turns one into the other.
    """
    return {word} | {word[:i] + word[i + 1 :] for i in range(1, len(word))}
