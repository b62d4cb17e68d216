"""What is asked about a number, and how it is read out of free text."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from rlchat_envs.nlu.cues import any_of
from rlchat_envs.nlu.lexicon import Lexicon
from rlchat_envs.scenarios.games.data import load_data
from rlchat_envs.scenarios.games.numerals import in_digits
from rlchat_envs.scenarios.games.player import Heard, Told

MAX_LENGTH = 300  # characters; nobody needs more to ask about a number

_WORDS = load_data("number_heard")
_LEXICON = Lexicon({}, {}, mended=frozenset(_WORDS["mended"]), right=frozenset(_WORDS["right"]))


@dataclass(frozen=True, slots=True)
class NumberQuestion:
    """A guess of ``low`` (kind ``guess``), or a question.

    ``side``: is it higher or lower than ``low``? ``within``: is it in ``low`` to ``high``, ends
    included, where None is no end? ``multiple``: is it divisible by ``low``? ``odd``: is it odd?
    ``ends``: is ``low`` its last digit?
    """

    kind: str
    low: int | None = None
    high: int | None = None

    def answer(self, secret: int) -> str:
        """See `player.Question`."""
        if self.kind in ("guess", "side"):
            assert self.low is not None
            if secret == self.low:
                return "right" if self.kind == "guess" else "neither"
            return "higher" if secret > self.low else "lower"
        return "yes" if self._holds(secret) else "no"

    def _holds(self, n: int) -> bool:
        if self.kind == "within":
            return (self.low is None or n >= self.low) and (self.high is None or n <= self.high)
        if self.kind == "odd":
            return n % 2 == 1
        assert self.low is not None
        return n % 10 == self.low if self.kind == "ends" else n % self.low == 0


_N = r"(-?\d+)"
_UP = r"(?:higher|greater|bigger|larger|more|above|over|up|upwards?)"
_DOWN = r"(?:lower|less|smaller|fewer|below|under|down|downwards?)"
_THAN = r"(?: (?:in value )?(?:than|as|from|of|to))?(?: the number)?"
_EQUAL = r"(?:equals?|the same|exactly)(?: to| as)?"
_ALONE = r"(?! (?:than )?-?\d)"
_ABOVE = re.compile(
    rf"\b(?:higher|greater|bigger|larger|more|above|over|beyond|past|exceeds?|exceeding|upwards?|"
    rf"north){_THAN} {_N}\b|> ?{_N}\b"
)
_BELOW = re.compile(
    rf"\b(?:lower|less|smaller|fewer|below|under|beneath|short|south|downwards?|"
    rf"not as (?:big|high|large|great)){_THAN} {_N}\b|< ?{_N}\b"
)
_AT_LEAST = re.compile(
    rf"\b(?:at least|not (?:less|lower|smaller|below|under)(?: than)?|no less than|minimum(?: of)?)"
    rf" {_N}\b|\b{_UP}(?: than)? or {_EQUAL} {_N}\b|\b{_N} (?:or|and) {_UP}\b{_ALONE}"
    rf"|\b{_N} at least\b|>= ?{_N}\b"
)
_AT_MOST = re.compile(
    rf"\b(?:at most|not (?:more|higher|greater|bigger|larger|above|over)(?: than)?|no more than|"
    rf"up to|maximum(?: of)?) {_N}\b|\b{_DOWN}(?: than)? or {_EQUAL} {_N}\b"
    rf"|\b{_N} (?:or|and) {_DOWN}\b{_ALONE}|\b{_N} at most\b|<= ?{_N}\b"
)
_SIDE = re.compile(
    rf"\b(?:{_UP} or {_DOWN}|{_DOWN} or {_UP})(?: than| from)? {_N}\b"
    rf"|\b{_N},? (?:or )?(?:is it )?(?:{_UP} or {_DOWN}|{_DOWN} or {_UP})\b"
)
_BETWEEN = re.compile(
    rf"\b(?:between|from|within|in|range) (?:the )?(?:range |numbers )?(?:of |from |between )?"
    rf"{_N} ?(?:and|to|through|until|-|\u2013) ?{_N}\b|^\W*{_N} ?(?:to|-|\u2013) ?{_N}\b"
)
_DECADE = re.compile(
    rf"\b(?:in|one of) (?:the |your )?(?:(\d0) ?s|({'|'.join(_WORDS['decades'])}))\b"
)
_DIGITS = re.compile(r"\b(single|1|double|2|triple|3)[ -](?:digits?|figures?)\b")
_MULTIPLE = re.compile(
    rf"\b(?:divisible by|multiples? of|divide(?:s|d)? by|in the (?:table|times table) of) {_N}\b"
)
_ENDS = re.compile(
    r"\b(?:end(?:s|ing)? (?:in|with|on)|last digit(?: is)?(?: an?)?) (?:an? )?(\d)\b"
)
_GUESS = re.compile(
    rf"\b(?:is|s|it|be|number|guess(?:ing)?|say|think|thinking of|about|try|mean|pick|answer|"
    rf"must be|bet(?: on)?)[ ,:]+(?:it )?"
    rf"(?:is |s )?(?:(?:the number|number|exactly|maybe|perhaps|simply|just|equal to) )*{_N}(?!\w)"
)
_BARE = re.compile(
    rf"^\W*(?:(?:so|ok|okay|well|hm+|now|and|then|maybe|perhaps|please)\W+)*{_N}\W*"
    r"(?:please|then|maybe|perhaps|right)?\W*$"
)
_ASKS = any_of(
    r"\?",
    (
        r"^\W*(?:(?:so|and|then|ok|okay|well|now|please|maybe|perhaps|hm+)\W+)*"
        r"(?:is|s|does|do|are|can|could|would|will|might|what about|how about|has|have you|was)\b"
    ),
    r"\b(?:my guess|i (?:guess|say|think|d say|ll (?:say|try|go))|tell me|let me (?:try|guess))\b",
)
_GIVES_UP = re.compile(r"\bi (?:\w+ )?give (?:it )?up\b|^\W*(?:we )?give up\W*$|\bi surrender\b")
_CLAUSE = any_of(
    r"(?<=[.!?;:])\s+",
    r"\n+",
    r"(?:,|\bbut\b)\s*(?=(?:so|is|could|can|would|does|then|how|what|my|i|maybe|perhaps|let)\b)",
)
_OUTSIDE = re.compile(r"\b(?:not|isn t|never) (?:between|in|from|within)\b|\boutside\b")
_UPWARDS = re.compile(
    r"\b(?:higher|bigger|larger|greater|too (?:low|small)|go up)\b|^\W*(?:no\W+)?(?:up|more)\b"
)
_DOWNWARDS = re.compile(
    r"\b(?:lower|smaller|too (?:high|big|large)|go down)\b|^\W*(?:no\W+)?(?:down|less)\b"
)
_YES_OR_NO = re.compile(
    r"\b(?:(yes|yep|yeah|correct|indeed|true|right)|(?:no|nope|not|wrong|isn))\b"
)
_SHORT = 5  # words; a comparison of so few needs no question mark


@lru_cache(maxsize=10_000)
def understand(text: str) -> Heard[int]:
    """Read an agent's message."""
    if len(text) > MAX_LENGTH:
        return Heard(too_long=True)
    plain = normalised(text)
    clauses = [clause for clause in _CLAUSE.split(plain) if clause.strip()]
    asking = [clause for clause in clauses if _ASKS.search(clause)]
    short = [clause for clause in clauses if len(clause.split()) <= _SHORT]
    found = [q for clause in asking or short for q in _read(clause)]
    return Heard(
        tuple(dict.fromkeys(found)),
        asks=bool(asking),
        gives_up=bool(_GIVES_UP.search(plain)) and not found,
    )


@lru_cache(maxsize=10_000)
def read_reply(question: NumberQuestion | None, text: str) -> tuple[Told[int], ...]:
    """Read what a user's reply says about the number, the bounds in it or else a yes or no.

    Args:
        question: what was asked; None if that is unknown.
        text: the reply.
    """
    plain = normalised(text)
    bounds = _bounds(plain)
    if bounds is not None:
        return (Told(bounds, "no" if _OUTSIDE.search(plain) else "yes"),)
    if question is None:
        return ()
    if question.kind in ("guess", "side"):
        side = "higher" if _UPWARDS.search(plain) else "lower" if _DOWNWARDS.search(plain) else ""
        return (Told(replace(question, kind="side"), side),) if side else ()
    answer = _YES_OR_NO.search(plain)
    return (Told(question, "yes" if answer[1] else "no"),) if answer else ()


def normalised(text: str) -> str:
    """Lower case, slips mended, numbers in digits."""
    return in_digits(_LEXICON.normalised(text))


def _read(clause: str) -> list[NumberQuestion]:
    """The questions and guesses of a clause; more than one if it is not clear which is meant."""
    if found := _SIDE.search(clause):
        return [NumberQuestion("side", _number(found))]
    if (bounds := _bounds(clause)) is not None:
        return [bounds]
    if (property_ := _property(clause)) is not None:
        return [property_]
    numbers = [int(n) for n in re.findall(rf"(?<!\w){_N}(?!\w)", clause)]
    if numbers and (_GUESS.search(clause) or _BARE.match(clause)):
        return [NumberQuestion("guess", n) for n in dict.fromkeys(numbers)]
    return []


def _bounds(clause: str) -> NumberQuestion | None:
    """The range that a clause names."""
    if found := _BETWEEN.search(clause):
        one, two = sorted(int(n) for n in found.groups() if n is not None)
        return NumberQuestion("within", one, two)
    at_least = [_number(m) for m in _AT_LEAST.finditer(clause)]
    at_most = [_number(m) for m in _AT_MOST.finditer(clause)]
    rest = _AT_MOST.sub(" ", _AT_LEAST.sub(" ", clause))
    lows = at_least + [_number(m) + 1 for m in _ABOVE.finditer(rest)]
    highs = at_most + [_number(m) - 1 for m in _BELOW.finditer(rest)]
    if lows or highs:
        return NumberQuestion("within", max(lows, default=None), min(highs, default=None))
    if found := _DECADE.search(clause):
        tens = int(found[1]) // 10 if found[1] else _WORDS["decades"].index(found[2]) + 1
        return NumberQuestion("within", 10 * tens, 10 * tens + 9)
    if found := _DIGITS.search(clause):
        size = {"single": 1, "double": 2, "triple": 3}.get(found[1]) or int(found[1])
        return NumberQuestion("within", 10 ** (size - 1) if size > 1 else 0, 10**size - 1)
    return None


def _property(clause: str) -> NumberQuestion | None:
    if (found := _MULTIPLE.search(clause)) and int(found[1]):
        return NumberQuestion("multiple", abs(int(found[1])))
    if found := _ENDS.search(clause):
        return NumberQuestion("ends", int(found[1]))
    if re.search(r"\beven\b(?! (?:if|though|higher|lower|bigger|smaller))", clause):
        return NumberQuestion("multiple", 2)
    return NumberQuestion("odd") if re.search(r"\bodd\b", clause) else None


def _number(found: re.Match[str]) -> int:
    return next(int(n) for n in found.groups() if n is not None)
