"""How hard a reply is to read: the Flesch-Kincaid grade, made to bear short texts."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE = re.compile(r"[.!?…]+|\n+")
_VOWELS = re.compile(r"[aeiouyàâäéèêëîïôöùûü]+")
_USUAL_WORDS, _USUAL_SYLLABLES = 8, 1.4  # added to a reply, or two words would decide
_LONGEST = 15  # words of a sentence that count: a sentence without an end is not advanced


def grade_of_reply(text: str) -> float:
    """The Flesch-Kincaid grade of a reply, in years of school; it may be two words long.

    0.39 · words / sentences + 11.8 · syllables / words − 15.59 (Kincaid, Fishburne, Rogers and
    Chissom 1975). Here syllables a word are those of the reply's different words with eight of 1.4
    syllables added, the average of plain prose, and a sentence has at most 15 words: neither a long
    word said again nor a sentence without an end raises the grade. Numbers are no words.
    """
    different = set(words_of(text.lower()))
    long = _USUAL_WORDS * _USUAL_SYLLABLES + sum(map(syllables, different))
    a_sentence = len(words_of(text)) / _sentences(text)
    a_word = long / (len(different) + _USUAL_WORDS)
    return 0.39 * min(a_sentence, _LONGEST) + 11.8 * a_word - 15.59


def words_of(text: str) -> list[str]:
    """The words of a text; numbers are none."""
    return _WORD.findall(text)


def syllables(word: str) -> int:
    """About how many syllables an English word has: its groups of vowels, less silent endings."""
    word = word.lower().replace("’", "'").partition("'")[0]
    groups = len(_VOWELS.findall(word))
    if groups > 1 and _silent(word):
        groups -= 1
    return max(1, groups)


def _silent(word: str) -> bool:
    """Whether the last group of vowels is silent: late, loved, likes; not table, wanted, boxes."""
    if word.endswith("ed"):
        return word[-3:-2] not in ("d", "t", *"aeiouy")
    if word.endswith("es"):
        return word[-3:-2] not in tuple("scxzgaeiouy") and word[-4:-2] not in ("ch", "sh")
    if word.endswith("le"):
        return word[-3:-2] in tuple("aeiouy")
    return word.endswith("e") and word[-2:-1] not in tuple("aeiouy")


def _sentences(text: str) -> int:
    return max(1, sum(bool(words_of(part)) for part in _SENTENCE.split(text)))
