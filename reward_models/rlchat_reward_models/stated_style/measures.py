"""How far a reply follows a stated style, from 0 to 1, and the parts of a score made of it.

Each measure is made so that its cheapest way up is to speak in that style: words that only fill,
sentences that were said before, and marks that are repeated count for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from rlchat_envs import Conversation, declared, read_message
from rlchat_reward_models.rules import sentences
from rlchat_reward_models.stated_style.axes import AXES, SIDES, Style
from rlchat_reward_models.stated_style.readability import grade_of_reply

WEIGHT = 0.3  # what following none of what is stated costs a turn, in score units
STATED_PARTS = tuple(f"stated_{axis}" for axis in dict.fromkeys(SIDES.values()))
_SUBSTANCE = 3  # different words besides courtesies that a reply needs to follow any style
_BRIEF, _NOT_BRIEF = 8, 24  # words
_NOT_DETAILED, _DETAILED = 3, 10  # different content words
_PLAIN, _ADVANCED = 2.0, 8.0  # grades
_MARKS = 2  # kinds of marks, more than of the other tone, that make a tone

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SPLIT = re.compile(r"(?<=[.!?…])\s+|\n+")
_COURTESY = re.compile(
    r"^(?:please|kindly|thank|thanks|thankful|grateful|welcome|sorry|apolog\w+|regret\w*|afraid|"
    r"appreciat\w*|patien\w+|understand\w*|glad\w*|happ(?:y|ily)|great\w*|lovely|wonderful\w*|"
    r"pleas(?:ed|ure)|delighted|sure|certainly|ok|okay|yes|no|hi|hey|hello|dear|sir|madam|"
    r"problem|worr\w+|hurry|trouble|inconvenience|help\w*|assist\w*|contact\w*|really|very|truly|"
    r"much|so|just|well)$"
)
_FUNCTION = re.compile(
    r"^(?:a|about|all|also|am|an|and|any|are|as|at|be|been|before|but|by|can|could|did|do|does|for|"
    r"from|get|had|has|have|he|her|here|him|his|how|i|if|in|into|is|it|its|let|like|may|me|might|"
    r"more|my|need|now|of|on|once|one|or|our|out|shall|she|should|some|such|than|that|the|their|"
    r"them|then|there|these|they|this|those|to|too|up|us|was|we|were|what|when|where|which|while|"
    r"who|whom|why|will|with|would|you|yours?|\w+'(?:m|re|ll|ve|d|s)|\w+n't)$"
)
_FORMAL = (
    re.compile(r"\b(?:could|may|might|would|shall)\b", re.I),
    re.compile(
        r"(?<!may )(?<!could )(?<!might )(?<!would )(?<!shall )"  # which "May I have" is not
        r"\b(?:(?:i|we|you|they|it|that|he|she) (?:am|are|is|have|has|will)|do not|does not|cannot|"
        r"can not|will not|is not|are not)\b",
        re.I,
    ),
    re.compile(
        r"\b(?:kindly|regarding|sincerely|apolog\w+|regret\w*|assist\w*|inform\w*|provide\w*|"
        r"request\w*|require\w*|therefore|furthermore|accordingly|sir|madam|dear)\b",
        re.I,
    ),
)
_FRIENDLY = (
    re.compile(
        r"\b\w+['’](?:m|re|ll|ve|d)\b|\w+n['’]t\b|\b(?:it|that|here|there|what|let)['’]s\b", re.I
    ),
    re.compile(r"!"),
    re.compile(r"\b(?:hi|hey|hello|thanks|cheers|sure|no worries|no problem|okay|yeah)\b", re.I),
    re.compile(
        r"\b(?:glad\w*|happy|happily|great|wonderful|lovely|delighted|good luck|enjoy|love|"
        r"take your time|no hurry|don['’]t worry)\b",
        re.I,
    ),
)


def follows(side: str, context: Conversation, reply: str) -> float:
    """How far a reply follows one side of an axis, from 0 to 1; above .5 it is on that side.

    A reply that says nothing, or nothing new, follows none: what it lacks of three different words
    besides courtesies takes a third each, and sentences that the agent said before, here or
    earlier, take their share of its words.

    Args:
        side: as brief, formal or plain.
        context: the messages before.
        reply: the agent's.
    """
    fresh = _fresh(context, reply)
    substance = min(1.0, len(set(_plain_words(fresh))) / _SUBSTANCE)
    new = len(_WORD.findall(fresh)) / max(1, len(_WORD.findall(reply)))
    return substance * new * _MEASURES[side](reply, fresh)


def style_parts(style: Style, context: Conversation, message: str) -> dict[str, float]:
    """The parts of a turn's score for what is stated: each 0 at best, all together −0.3 at worst.

    A message that only calls functions is read by nobody, and costs nothing.

    Args:
        style: what is stated.
        context: the messages before, the first of which declares the agent's functions.
        message: the agent's.
    """
    said = read_message(message, declared(context))
    words = said.words if said.calls else message
    silent = bool(said.calls) and not words
    return {
        f"stated_{SIDES[side]}": 0.0
        if silent
        else -WEIGHT * (1.0 - follows(side, context, words)) / len(style)
        for side in style
    }


def replies_of(conversation: Conversation) -> Iterator[tuple[Conversation, str]]:
    """Each message in which the agent says something, with the messages before it."""
    tools = declared(conversation)
    for i, message in enumerate(conversation):
        if message.role == "assistant":
            said = read_message(message.content, tools)
            if not said.calls or said.words:
                yield conversation[:i], said.words if said.calls else message.content


def hindsight_styles(conversations: Sequence[Conversation]) -> list[Style]:
    """What style each conversation could have been asked for, by what the agent said in it.

    Of each axis the third of the conversations that is farthest to one side has that side, the
    third that is farthest to the other the other, and the rest neither. Conversations of an agent
    that knows of no style become demonstrations of styles in this way, with no word of it changed
    (as in hindsight relabelling: Andrychowicz et al. 2017). An axis on which all are alike has
    none.
    """
    styles: list[list[str]] = [[] for _ in conversations]
    if not (third := len(conversations) // 3):
        return [()] * len(conversations)
    for first, second in AXES.values():
        leaning = [_leaning(c, first, second) for c in conversations]
        ranked = sorted(leaning)
        low, high = ranked[third - 1], ranked[-third]
        for style, value in zip(styles, leaning, strict=True):
            if value <= low < high:
                style.append(first)
            elif value >= high > low:
                style.append(second)
    return [tuple(style) for style in styles]


def _leaning(conversation: Conversation, first: str, second: str) -> float:
    """How far an agent's replies lean to the second side rather than to the first, on average."""
    found = [follows(second, c, r) - follows(first, c, r) for c, r in replies_of(conversation)]
    return fmean(found) if found else 0.0


def _brief(reply: str, _: str) -> float:
    """Few words; every word counts, said before or not."""
    return 1.0 - _between(len(_WORD.findall(reply)), _BRIEF, _NOT_BRIEF)


def _detailed(_: str, fresh: str) -> float:
    """Many different words that carry content, in sentences that are new."""
    content = {w for w in _plain_words(fresh) if not _FUNCTION.match(w)}
    return _between(len(content), _NOT_DETAILED, _DETAILED)


def _formal(reply: str, _: str) -> float:
    return 1.0 - _friendly(reply, _)


def _friendly(reply: str, _: str) -> float:
    """Kinds of friendly marks less kinds of formal ones; each kind counts once."""
    marks = sum(bool(m.search(reply)) for m in _FRIENDLY)
    return _between(marks - sum(bool(m.search(reply)) for m in _FORMAL), -_MARKS, _MARKS)


def _plain(reply: str, _: str) -> float:
    return 1.0 - _between(grade_of_reply(reply), _PLAIN, _ADVANCED)


def _advanced(_: str, fresh: str) -> float:
    return _between(grade_of_reply(fresh), _PLAIN, _ADVANCED)


_MEASURES: dict[str, Callable[[str, str], float]] = {
    "brief": _brief,
    "detailed": _detailed,
    "formal": _formal,
    "friendly": _friendly,
    "plain": _plain,
    "advanced": _advanced,
}


def _between(value: float, low: float, high: float) -> float:
    """Where a value lies between two others, from 0 to 1."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _plain_words(text: str) -> list[str]:
    """Words in small letters, courtesies left out."""
    words = [w.replace("’", "'") for w in _WORD.findall(text.lower())]
    return [w for w in words if not _COURTESY.match(w)]


def _fresh(context: Conversation, reply: str) -> str:
    """The sentences of a reply that this agent has not said before, each once."""
    known = {s for m in context if m.role == "assistant" for s in sentences(m.content)}
    kept = []
    for part in _SPLIT.split(reply):
        said = set(sentences(part))
        if not said & known:
            kept.append(part)
            known |= said
    return " ".join(kept)
