"""A consultation as a file describes it: what can be asked, offered and said, and what is right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import product
from pathlib import Path

from rlchat_envs.core.located_yaml import Marked, read_marked
from rlchat_envs.core.protocols import SPLITS
from rlchat_envs.nlu.lexicon import Lexicon

Sided = Mapping[str, tuple[str, ...]]  # wordings by side of the split
Known = frozenset[tuple[str, str]]  # facts and their values

USER_LINES = (
    "confused",
    "overwhelmed",
    "irrelevant",
    "already",
    "lookup",
    "correct",
    "too_early",
    "unsure",
    "thanks",
    "unfounded",
    "incomplete",
    "wrong",
    "walkout",
    "stalled",
    "demands",
)
AGENT_LINES = ("hello", "again", "known", "start", "end")


@dataclass(frozen=True, slots=True)
class Value:
    """One thing a fact can be, and how users say it; ``means`` tells people in short."""

    means: str
    said: Sided


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that only the user knows, or, with ``desk``, only the desk.

    A fact with a ``like`` is drawn freely: ``#`` stands for a digit, ``@`` for a capital letter.
    """

    name: str
    called: str
    ask: tuple[str, ...] = ()
    curt: tuple[str, ...] = ()
    both: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)
    like: str = ""
    answer: Sided = field(default_factory=dict)
    desk: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """A solution that an agent can give, and how scripted agents word it."""

    name: str
    called: str
    say: tuple[str, ...]
    curt: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is neither question nor offer, but has to be said, or must not be."""

    name: str
    called: str
    say: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """If the facts are among ``when``, then ``offers`` are right (or cost ``cost``)."""

    when: Mapping[str, tuple[str, ...]]
    offers: tuple[str, ...]
    cost: str = ""

    def fits(self, facts: Mapping[str, str]) -> bool:
        """Whether every condition holds."""
        return all(facts.get(name) in values for name, values in self.when.items())


@dataclass(frozen=True)
class Problem:
    """What a user comes with: the facts it takes, and what is right, first rule that fits."""

    name: str
    called: str
    needs: tuple[str, ...]
    rules: tuple[Rule, ...]
    opening: Sided
    weights: Mapping[str, Mapping[str, float]]  # of facts' values; equal where not given
    possible: Mapping[str, tuple[str, ...]]  # the values that each fact can have here
    _evident: dict[Known, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def right(self, facts: Mapping[str, str]) -> tuple[str, ...]:
        """The offers that are right, given all facts."""
        return next(rule.offers for rule in self.rules if rule.fits(facts))

    def evident(self, known: Known) -> tuple[str, ...]:
        """The offers that are right in every case in which ``known`` holds."""
        if known not in self._evident:
            self._evident[known] = self._right_everywhere(dict(known))
        return self._evident[known]

    def _right_everywhere(self, known: Mapping[str, str]) -> tuple[str, ...]:
        decisive = {name for rule in self.rules for name in rule.when}
        unknown = sorted(decisive - known.keys())
        cases = product(*(self.possible[name] for name in unknown))
        rights = [self.right({**known, **dict(zip(unknown, case, strict=True))}) for case in cases]
        return tuple(offer for offer in rights[0] if all(offer in right for right in rights))


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the desk shows once the user has told some facts; ``{fact}`` stands for a value."""

    after: tuple[str, ...]
    text: str
    problems: tuple[str, ...] = ()  # all if none


@dataclass(frozen=True, slots=True)
class Page:
    """A document of the desk's, with ``{fact}`` where an episode's value belongs."""

    title: str
    text: str
    source: str


@dataclass(frozen=True)
class Book:
    """One scenario, read from a file."""

    system: str
    facts: Mapping[str, Fact]
    offers: Mapping[str, Offer]
    remarks: Mapping[str, Remark]
    must_say: tuple[str, ...]
    must_not_say: Mapping[str, str]  # remark: name of its cost
    problems: Mapping[str, Problem]
    unsafe: tuple[Rule, ...]
    sheets: tuple[Sheet, ...]
    pages: tuple[Page, ...]
    demands: tuple[str, ...]  # offers and remarks that adversarial users press for
    lexicon: Lexicon
    lines: Mapping[str, Sided]  # what users say, by kind
    words: Mapping[str, tuple[str, ...]]  # what scripted agents say around their acts


TOP = ("system", "facts", "offers", "problems")
MORE = (
    *("remarks", "must_say", "must_not_say", "unsafe", "sheets", "documents", "demands"),
    *("desk", "lines", "words", "mended"),
)


@cache
def shared_words() -> Marked:
    """What users and agents of every consultation say."""
    with resources.as_file(resources.files("rlchat_envs.consultation") / "words.yaml") as path:
        return read_marked(path)


def read_book(path: Path) -> Book:
    """Read a scenario's file.

    Raises:
        ValueError: a mistake in it, with file, line and field.
    """
    top = read_marked(path)
    fields = top.fields(TOP, MORE)
    asked = {n: _fact(n, m, False) for n, m in fields["facts"].fields().items()}
    desk = _named(fields, "desk")
    clash = next((n for n in desk if n in asked), None)
    if clash:
        desk[clash].wrong("a name that no fact of the user's has", repr(clash))
    facts = asked | {n: _fact(n, m, True) for n, m in desk.items()}
    offers = {n: _offer(n, m) for n, m in fields["offers"].fields().items()}
    remarked = _named(fields, "remarks")
    remarks = {n: _remark(n, m) for n, m in remarked.items()}
    problems = {n: _problem(n, m, facts, offers) for n, m in fields["problems"].fields().items()}
    shared = shared_words().fields(("user", "agent"))
    return Book(
        system=fields["system"].text(),
        facts=facts,
        offers=offers,
        remarks=remarks,
        must_say=_known(fields, "must_say", remarks, "remarks"),
        must_not_say={
            Marked(n, m.file, m.line, m.field).one_of(remarks, "remarks"): m.text()
            for n, m in _named(fields, "must_not_say").items()
        },
        problems=problems,
        unsafe=tuple(_rule(m, facts, offers, True) for m in _listed(fields, "unsafe")),
        sheets=tuple(_sheet(m, facts, problems) for m in _listed(fields, "sheets")),
        pages=tuple(_page(m, facts) for m in _listed(fields, "documents")),
        demands=_known(fields, "demands", {**offers, **remarks}, "offers and remarks"),
        lexicon=_lexicon(fields, asked, remarked),
        lines=_lines(shared["user"], fields.get("lines")),
        words=_words(shared["agent"], fields.get("words")),
    )


def sided(marked: Marked) -> Sided:
    """Wordings of all sides of the split."""
    fields = marked.fields(SPLITS, ())
    return {split: fields[split].texts() for split in SPLITS}


def placeholders(text: str) -> list[str]:
    """The names in braces."""
    return re.findall(r"{(\w*)}", text)


def _named(fields: Mapping[str, Marked], name: str) -> Mapping[str, Marked]:
    return fields[name].fields() if name in fields else {}


def _listed(fields: Mapping[str, Marked], name: str) -> Sequence[Marked]:
    return fields[name].items() if name in fields else ()


def _known(
    fields: Mapping[str, Marked], name: str, known: Mapping[str, object], what: str
) -> tuple[str, ...]:
    return tuple(m.one_of(known, what) for m in _listed(fields, name))


def _fact(name: str, marked: Marked, desk: bool) -> Fact:
    if desk:
        fields = marked.fields((), ("called", "values", "like"))
    else:
        fields = marked.fields(
            ("called", "heard", "ask", "both"), ("curt", "values", "like", "answer")
        )
    if ("values" in fields) == ("like" in fields):
        marked.wrong("either values or like")
    values = {n: _value(n, m, desk) for n, m in _named(fields, "values").items()}
    if "values" in fields and not values:
        fields["values"].wrong("at least one value")
    answer = sided(fields["answer"]) if "answer" in fields else {}
    if "like" in fields and not desk and not answer:
        marked.wrong("a field answer beside like")
    for split, line in ((s, line) for s, lines in answer.items() for line in lines):
        if placeholders(line) != ["value"]:
            fields["answer"].fields()[split].wrong("lines with {value} in them, once", repr(line))
    called = fields["called"].text() if "called" in fields else name
    if desk:
        return Fact(name, called, values=values, like=_text(fields, "like"), desk=True)
    ask = fields["ask"].texts()
    curt = fields["curt"].texts() if "curt" in fields else ask
    both = fields["both"].text()
    return Fact(name, called, ask, curt, both, values, _text(fields, "like"), answer)


def _text(fields: Mapping[str, Marked], name: str) -> str:
    return fields[name].text() if name in fields else ""


def _value(name: str, marked: Marked, desk: bool) -> Value:
    if desk:
        said = marked.texts()
        return Value(said[0], dict.fromkeys(SPLITS, said))
    fields = marked.fields(SPLITS, ("means",))
    means = _text(fields, "means") or name.replace("_", " ")
    return Value(means, {split: fields[split].texts() for split in SPLITS})


def _offer(name: str, marked: Marked) -> Offer:
    fields = marked.fields(("called", "heard", "say"), ("curt", "defiant"))
    say = fields["say"].texts()
    curt = fields["curt"].texts() if "curt" in fields else say
    return Offer(name, fields["called"].text(), say, curt)


def _remark(name: str, marked: Marked) -> Remark:
    fields = marked.fields(("called", "heard", "say"), ())
    return Remark(name, fields["called"].text(), fields["say"].texts())


def _problem(
    name: str, marked: Marked, facts: Mapping[str, Fact], offers: Mapping[str, Offer]
) -> Problem:
    fields = marked.fields(("needs", "rules", "opening"), ("called", "chances"))
    asked = {n: fact for n, fact in facts.items() if not fact.desk}
    needs = tuple(m.one_of(asked, "facts") for m in fields["needs"].items())
    rules = tuple(_rule(m, facts, offers, False) for m in fields["rules"].items())
    for rule, m in zip(rules, fields["rules"].items(), strict=True):
        for fact in rule.when:
            if fact in asked and fact not in needs:
                m.wrong(f"conditions on what the problem needs ({', '.join(needs)})", fact)
    if not rules or rules[-1].when:
        fields["rules"].wrong("a last rule without when, which decides all other cases")
    weights: dict[str, dict[str, float]] = {}
    for fact, m in _named(fields, "chances").items():
        Marked(fact, m.file, m.line, m.field).one_of(facts, "facts")
        known = facts[fact].values
        weights[fact] = {v: w.number(0, 1e9) for v, w in m.fields((), known).items() if v in known}
        if not sum(weights[fact].values()) > 0:
            m.wrong("chances of which one is above 0")
    called = _text(fields, "called") or name.replace("_", " ")
    possible = {
        n: tuple(v for v in fact.values if weights.get(n, {v: 1.0}).get(v, 0.0) > 0)
        for n, fact in facts.items()
    }
    return Problem(name, called, needs, rules, sided(fields["opening"]), weights, possible)


def _rule(
    marked: Marked, facts: Mapping[str, Fact], offers: Mapping[str, Offer], unsafe: bool
) -> Rule:
    fields = marked.fields(("offer", "cost") if unsafe else ("offer",), ("when",))
    known: dict[str, Iterable[str]] = {n: fact.values for n, fact in facts.items()}
    if unsafe:
        known["right"] = offers  # what would be right in the case
    when = {}
    for name, m in _named(fields, "when").items():
        Marked(name, m.file, m.line, m.field).one_of(known, "facts")
        when[name] = _names(m, known[name], f"values of {name}")
    return Rule(when, _names(fields["offer"], offers, "offers"), _text(fields, "cost"))


def _names(marked: Marked, known: Iterable[str], what: str) -> tuple[str, ...]:
    """One name, or a list of them."""
    given = (marked,) if isinstance(marked.value, str) else marked.items()
    return tuple(m.one_of(known, what) for m in given)


def _sheet(marked: Marked, facts: Mapping[str, Fact], problems: Mapping[str, Problem]) -> Sheet:
    fields = marked.fields(("text",), ("after", "problems"))
    _check_places(fields["text"], facts)
    after = _known(fields, "after", facts, "facts")
    return Sheet(after, fields["text"].text(), _known(fields, "problems", problems, "problems"))


def _page(marked: Marked, facts: Mapping[str, Fact]) -> Page:
    fields = marked.fields(("title", "text"), ("source",))
    _check_places(fields["text"], facts)
    return Page(
        fields["title"].text(), fields["text"].text(), _text(fields, "source") or "our own pages"
    )


def _check_places(marked: Marked, facts: Mapping[str, Fact]) -> None:
    for name in placeholders(marked.text()):
        Marked(f"{{{name}}}", marked.file, marked.line, marked.field).one_of(
            [f"{{{fact}}}" for fact in facts], "places"
        )


def _lexicon(
    fields: Mapping[str, Marked], asked: Mapping[str, Fact], remarks: Mapping[str, Marked]
) -> Lexicon:
    facts, offers = fields["facts"].fields(), fields["offers"].fields()
    defiant = [n for n, m in offers.items() if m.fields().get("defiant")]
    mended = fields["mended"].texts() if "mended" in fields else ()
    words = frozenset(word for line in mended for word in line.split())
    return Lexicon(
        asked={name: facts[name].fields()["heard"].pattern() for name in asked},
        offered={n: m.fields()["heard"].pattern() for n, m in offers.items() if n not in defiant},
        remarked={n: m.fields()["heard"].pattern() for n, m in remarks.items()},
        defiant={n: offers[n].fields()["heard"].pattern() for n in defiant},
        mended=words | {"please", "confirm", "describe", "provide"},
        right=frozenset(f"{word}s" for word in words) - words,
    )


def _lines(shared: Marked, own: Marked | None) -> Mapping[str, Sided]:
    found = {kind: sided(m) for kind, m in shared.fields(USER_LINES, ()).items()}
    for kind, m in (own.fields((), USER_LINES) if own is not None else {}).items():
        found[kind] = sided(m)
    return found


def _words(shared: Marked, own: Marked | None) -> Mapping[str, tuple[str, ...]]:
    found = {kind: m.texts() for kind, m in shared.fields(AGENT_LINES, ()).items()}
    for kind, m in (own.fields((), AGENT_LINES) if own is not None else {}).items():
        found[kind] = m.texts()
    return found
