"""What a student hears in a tutor's message: exercises, explanations, hints, answers, the test.

Works on words, not on magic phrases: a message is cut into clauses, and each sets an exercise,
calls for the test, or is part of what is taught. What explains what is in `skills.yaml`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rlchat_envs.nlu.cues import CLAUSE, any_of
from rlchat_envs.nlu.lexicon import MAX_LENGTH, Lexicon
from rlchat_envs.scenarios.tutoring.arithmetic import Exercise, find_numbers
from rlchat_envs.scenarios.tutoring.reading import read_exercises, tidy
from rlchat_envs.scenarios.tutoring.skills import Skill, explanations, load_data, skills

MAX_ACTS = 2  # in one message; more confuse
MAX_SUBJECTS = 3  # skills that the words of a message explain, be they meant or not


@dataclass(frozen=True, slots=True)
class Task:
    """An exercise that was set: one that the agent wrote, or the book's next if None."""

    skill: str
    exercise: Exercise | None = None


@dataclass(frozen=True, slots=True)
class Lesson:
    """Something explained, or only hinted at; ``mistakes`` are those it puts right."""

    skill: str
    mistakes: tuple[str, ...] = ()
    hint: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """The acts in one message."""

    tasks: tuple[Task, ...] = ()
    lessons: tuple[Lesson, ...] = ()
    told: frozenset[str] = frozenset()  # numbers that are given as answers
    another: bool = False  # one more of the last kind
    again: bool = False  # the last one once more
    probes: bool = False  # how did you get that?
    test: bool = False
    asks: bool = False
    too_much: bool = False  # too many words or subjects

    @property
    def overwhelms(self) -> bool:
        """Whether it is more than a student can take in or do."""
        acts = len(self.tasks) + len(self.lessons) + self.another + self.again + self.probes
        return self.too_much or acts > MAX_ACTS


_SET = any_of(
    r"\b(?:one|1|another|more|some|two|exercises?|problems?|questions?|tasks?|examples?|drills?|"
    r"go|shot|practice)(?: \w+)? (?:on|about|of|for|with|from|in|at)\b",
    r"\b(?:try|practi[sc]e|solve|drill|attempt|tackle|work on|show me|let me see|do|turn to|"
    r"move on to|go on with|continue with|next (?:is|comes)|set you|give you)\b(?! to\b)",
    r"\b(?:exercises?|how about|what about|(?:have|give it|take) a (?:go|shot|stab))\b",
)
_WRITTEN = any_of(
    r"\?",
    r"\b(?:whats?|how much|work out|calculate|compute|evaluate|determine|find|simplify|write|"
    r"convert|express|turn|add|multiply|divide|subtract|solve|next|now|please|here)\b",
)
_NOT_SET = any_of(
    r"\byou (?:did|got|solved|know|mastered|understood|missed|failed|answered|just)\b",
    r"\byou (?:have|ve|already) (?:\w+ )?(?:got|solved|mastered|done|shown|finished)\b",
    r"\b(?:no more|do not|don t|dont|stop|skip|enough|never mind|later|before we|once you|if you|"
    r"when you|instead of)\b",
)
_FILLER = (
    r"(?:please|an?|now|next|then|ok|okay|and|so|well|first|again|one|more|some|on|to|alright)"
)
_TEST = any_of(
    r"\b(?:final|post|end|closing|last|concluding)[ -]?(?:test|exam|quiz|check|assessment)\b",
    r"\b(?:do|start|take|sit|write|give|begin|have|go|move|on|ready|time|let s|let us|now)\b"
    r".{0,25}\b(?:the|your|our|a) (?:test|exam|quiz)\b",
    r"^\W*(?:the )?(?:test|exam)(?: time| now)?\W*$",
)
_NOT_TEST = any_of(
    r"\b(?:before|not|after|if|when|until|till|later|no|once|luck|pass|prepare\w*|study|never|"
    r"soon|don t|dont|isn t|too early|unless)\b",
)
_LATER = re.compile(r"^\W*(?:once|before|if|when|after|as soon as|until)\b(?!.*\bready\b)")
_AGAIN = any_of(
    r"\b(?:try|do|solve|attempt|have|check|redo|repeat|answer|take)\b.{0,25}"
    r"\b(?:again|once more|over|another (?:look|go|try|shot)|second (?:look|go|try))\b",
    r"^\W*(?:once more|again|retry)\W*$",
)
_ANOTHER = any_of(
    r"\b(?:another|one more|a new|a similar|the next)\b(?: one| exercise| problem| question| go)?",
    r"\bone like (?:that|it|this)\b",
)
_PROBES = any_of(
    r"\bhow (?:did|do|have|would) (?:you|u)\b.{0,25}"
    r"\b(?:get|got|do|arrive|come|solve|work|find|reach|calculate|think|that|it)\b",
    r"\b(?:show|tell|explain|describe|walk|talk)\b.{0,20}\b(?:your|how you|what you did|through)\b"
    r"(?:.{0,15}\b(?:steps?|working|work|thinking|reasoning|way|solution|it|did|got)\b)?",
    r"\bwhat (?:did|have) (?:you|u) (?:do|done)\b|\bwhat (?:are|were) your steps\b",
)
_HINTS = any_of(
    r"^\W*(?:a |one |here is a |small |little )*(?:hint|clue|tip|nudge)\b",
    r"\b(?:do|can|could) you (?:remember|recall|see)\b|\bhave you thought\b",
    r"\b(?:think (?:about|of)|look (?:\w+ )?at|notice|ask yourself)\b",
)
_TELLS = any_of(
    r"=|\b(?:answer|result|solution|it is|its|it s|is|equals?|should be|comes to|gives|makes|"
    r"correct|you get|we get|that s|write|would be)\b"
)
_ANSWERED = re.compile(r" ?(?:=|is|equals|makes|gives|comes to) ?-?\d")
_CUT = any_of(
    CLAUSE.pattern,
    r",?\s+(?:and\s+)?(?=(?:then|now|next)\b)|(?<!hint)(?<!clue)(?<!tip):\s+(?=[a-z§])",
    r",?\s+and\s+(?=(?:also |then )?(?:one|another|an?|some|two)\b)",
)

_WORDS = load_data("wording")["spelling"]
LEXICON = Lexicon(
    asked={},
    offered={},
    mended=frozenset(_WORDS["mended"].split()),
    right=frozenset(_WORDS["right"].split()),
)


def understand(text: str, page: Sequence[str]) -> Heard:
    """Read a message as a student would.

    Args:
        text: what the tutor says.
        page: the skills that the lesson is about; words that fit several skills mean one of
            these.
    """
    if len(text) > MAX_LENGTH:
        return Heard(too_much=True)
    plain = tidy(unicodedata.normalize("NFKC", text.replace("§", " ")))
    marked, exercises = _marked(LEXICON.normalised(plain))
    tasks: dict[Task, None] = {}
    rest, flags = [], dict.fromkeys(("test", "another", "again", "probes"), False)
    clauses = [clause.strip() for clause in _CUT.split(marked) if clause.strip()]
    if len({name for clause in clauses for name in explanations(clause)}) > MAX_SUBJECTS:
        return Heard(too_much=True)
    for before, clause in pairwise(["", *clauses]):
        found = _tasks(clause, exercises, page)
        tasks |= dict.fromkeys(found)
        flag = "" if found else _flag(clause)
        if flag and not (flag == "test" and _LATER.search(before)):
            flags[flag] = True
        elif not found:
            rest.append(clause)
    if tasks:
        flags |= {"test": False, "another": False, "again": False}
    lessons = _lessons(rest, page)
    return Heard(
        tuple(tasks),
        lessons,
        _told(rest),
        asks="?" in text,
        **flags,
    )


def _marked(text: str) -> tuple[str, list[Exercise]]:
    """Put ``§0§``, ``§1§``, … in the place of exercises, and ``§`` in that of solved ones."""
    parts, exercises, end = list[str](), list[Exercise](), 0
    for start, stop, exercise in read_exercises(text):
        solved = bool(_ANSWERED.match(text, stop)) and "x" not in exercise.text
        parts += [text[end:start], " § " if solved else f" §{len(exercises)}§ "]
        exercises += [] if solved else [exercise]
        end = stop
    return "".join([*parts, text[end:]]), exercises


def _tasks(clause: str, exercises: Sequence[Exercise], page: Sequence[str]) -> list[Task]:
    """The exercises that a clause sets, in order."""
    if _NOT_SET.search(clause):
        return []
    marks = [exercises[int(n)] for n in re.findall(r"§(\d+)§", clause)]
    bare = re.sub(rf"\b{_FILLER}\b|§\d+§|\W", "", clause) == ""
    if marks:
        taught = any(name in page for name in explanations(clause))
        written = _SET.search(clause) or "?" in clause or (_WRITTEN.search(clause) and not taught)
        return [Task(e.skill, e) for e in marks] if written or bare else []
    spans = _named(clause, page)
    if not spans:
        return []
    left = clause
    for start, stop in sorted(spans.values(), reverse=True):
        left = left[:start] + left[stop:]
    if _SET.search(clause) or re.sub(rf"\b{_FILLER}\b|\W", "", left) == "":
        return [Task(name) for name in spans]
    return []


def _named(clause: str, page: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The skills that a clause names, and where, from left to right."""
    matches = {name: skill.named.search(clause) for name, skill in skills().items()}
    spans = {name: m.span() for name, m in matches.items() if m}
    if not spans:
        loosely = {n: s.loosely.search(clause) for n, s in _of(page).items() if s.loosely}
        spans = {name: m.span() for name, m in loosely.items() if m}
        if len(spans) != 1:
            return {}
    return dict(sorted(spans.items(), key=lambda item: item[1]))


def _flag(clause: str) -> str:
    """What else a clause calls for: one of the flags of `Heard`, or nothing."""
    if _TEST.search(clause):
        return "" if _NOT_TEST.search(clause) else "test"
    if _PROBES.search(clause):
        return "probes"
    if _NOT_SET.search(clause):
        return ""
    if _AGAIN.search(clause) and not any(s.nudged.search(clause) for s in skills().values()):
        return "again"
    if _ANOTHER.search(clause) and not explanations(clause):
        return "another"
    return ""


def _lessons(rest: Sequence[str], page: Sequence[str]) -> tuple[Lesson, ...]:
    """What the clauses that set nothing explain or, failing that, hint at."""
    asked = [c for c in rest if "?" in c or _HINTS.search(c)]
    explained = _explained([clause for clause in rest if clause not in asked], page)
    if explained:
        return tuple(Lesson(name, mistakes) for name, mistakes in explained.items())
    hinted = _explained(asked, page)
    for name, skill in _of(page).items():
        if skill.nudged.search("; ".join(rest)):
            hinted.setdefault(name, ())
    return tuple(Lesson(name, mistakes, hint=True) for name, mistakes in hinted.items())


def _explained(clauses: Sequence[str], page: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Skills that clauses explain and the mistakes put right; those on the page if any is.

    An explanation is found in one clause, or in two neighbours.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in (*clauses, *("; ".join(pair) for pair in pairwise(clauses))):
        for name, mistakes in explanations(text).items():
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *mistakes)))
    here = {name: mistakes for name, mistakes in found.items() if name in page}
    if here:
        named = {n for n in here if any(skills()[n].named.search(text) for text in clauses)}
        return {name: here[name] for name in here if not named or name in named}
    return dict(list(found.items())[:1])


def _of(page: Sequence[str]) -> Mapping[str, Skill]:
    return {name: skills()[name] for name in page}


def _told(rest: Sequence[str]) -> frozenset[str]:
    """Numbers that are given as answers."""
    told: set[str] = set()
    for clause in rest:
        numbers = find_numbers(re.sub(r"§\d+§", " ", clause))
        if _TELLS.search(clause) or len(clause.split()) <= 2 * len(numbers):
            told |= set(numbers)
    return frozenset(told)
