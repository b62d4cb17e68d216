"""Reading the file that describes a consultation; mistakes in it are told with their line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from rlchat_envs.consultation.spec import (
    AGENT_LINES,
    USER_LINES,
    ConsultSpec,
    DocumentSpec,
    Fact,
    Offer,
    Problem,
    RecordSpec,
    Remark,
    Rule,
    Sided,
    Value,
)
from rlchat_envs.core.located_yaml import Located, read_located
from rlchat_envs.core.protocols import SPLITS
from rlchat_envs.nlu.lexicon import Lexicon

TOP = ("system", "facts", "offers", "problems")


MORE = (
    *("remarks", "must_say", "must_not_say", "unsafe", "sheets", "documents", "demands"),
    *("desk", "lines", "words", "mended"),
)


@cache
def shared_words() -> Located:
    """What users and agents of every consultation say."""
    with resources.as_file(resources.files("rlchat_envs.consultation") / "words.yaml") as path:
        return read_located(path)


def read_spec(path: Path) -> ConsultSpec:
    """Read a scenario's file.

    Raises:
        ValueError: a mistake in it, with file, line and field.
    """
    top = read_located(path)
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
    return ConsultSpec(
        system=fields["system"].text(),
        facts=facts,
        offers=offers,
        remarks=remarks,
        must_say=_known(fields, "must_say", remarks, "remarks"),
        must_not_say={
            Located(n, m.file, m.line, m.field).one_of(remarks, "remarks"): m.text()
            for n, m in _named(fields, "must_not_say").items()
        },
        problems=problems,
        unsafe=tuple(_rule(m, facts, offers, True) for m in _listed(fields, "unsafe")),
        records=tuple(_record(m, facts, problems) for m in _listed(fields, "sheets")),
        documents=tuple(_document(m, facts) for m in _listed(fields, "documents")),
        demands=_known(fields, "demands", {**offers, **remarks}, "offers and remarks"),
        lexicon=_lexicon(fields, asked, remarked),
        lines=_lines(shared["user"], fields.get("lines")),
        words=_words(shared["agent"], fields.get("words")),
    )


def sided(located: Located) -> Sided:
    """Wordings of all sides of the split."""
    fields = located.fields(SPLITS, ())
    return {split: fields[split].texts() for split in SPLITS}


def placeholders(text: str) -> list[str]:
    """The names in braces."""
    return re.findall(r"{(\w*)}", text)


def _named(fields: Mapping[str, Located], name: str) -> Mapping[str, Located]:
    return fields[name].fields() if name in fields else {}


def _listed(fields: Mapping[str, Located], name: str) -> Sequence[Located]:
    return fields[name].items() if name in fields else ()


def _known(
    fields: Mapping[str, Located], name: str, known: Mapping[str, object], what: str
) -> tuple[str, ...]:
    return tuple(m.one_of(known, what) for m in _listed(fields, name))


def _fact(name: str, located: Located, desk: bool) -> Fact:
    if desk:
        fields = located.fields((), ("called", "values", "like"))
    else:
        fields = located.fields(
            ("called", "heard", "ask", "both"), ("curt", "values", "like", "answer")
        )
    if ("values" in fields) == ("like" in fields):
        located.wrong("either values or like")
    values = {n: _value(n, m, desk) for n, m in _named(fields, "values").items()}
    if "values" in fields and not values:
        fields["values"].wrong("at least one value")
    answer = sided(fields["answer"]) if "answer" in fields else {}
    if "like" in fields and not desk and not answer:
        located.wrong("a field answer beside like")
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


def _text(fields: Mapping[str, Located], name: str) -> str:
    return fields[name].text() if name in fields else ""


def _value(name: str, located: Located, desk: bool) -> Value:
    if desk:
        said = located.texts()
        return Value(said[0], dict.fromkeys(SPLITS, said))
    fields = located.fields(SPLITS, ("means",))
    means = _text(fields, "means") or name.replace("_", " ")
    return Value(means, {split: fields[split].texts() for split in SPLITS})


def _offer(name: str, located: Located) -> Offer:
    fields = located.fields(("called", "heard", "say"), ("curt", "defiant"))
    say = fields["say"].texts()
    curt = fields["curt"].texts() if "curt" in fields else say
    return Offer(name, fields["called"].text(), say, curt)


def _remark(name: str, located: Located) -> Remark:
    fields = located.fields(("called", "heard", "say"), ())
    return Remark(name, fields["called"].text(), fields["say"].texts())


def _problem(
    name: str, located: Located, facts: Mapping[str, Fact], offers: Mapping[str, Offer]
) -> Problem:
    fields = located.fields(("needs", "rules", "opening"), ("called", "chances"))
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
        Located(fact, m.file, m.line, m.field).one_of(facts, "facts")
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
    located: Located, facts: Mapping[str, Fact], offers: Mapping[str, Offer], unsafe: bool
) -> Rule:
    fields = located.fields(("offer", "cost") if unsafe else ("offer",), ("when",))
    known: dict[str, Iterable[str]] = {n: fact.values for n, fact in facts.items()}
    if unsafe:
        known["right"] = offers  # what would be right in the case
    when = {}
    for name, m in _named(fields, "when").items():
        Located(name, m.file, m.line, m.field).one_of(known, "facts")
        when[name] = _names(m, known[name], f"values of {name}")
    return Rule(when, _names(fields["offer"], offers, "offers"), _text(fields, "cost"))


def _names(located: Located, known: Iterable[str], what: str) -> tuple[str, ...]:
    """One name, or a list of them."""
    given = (located,) if isinstance(located.value, str) else located.items()
    return tuple(m.one_of(known, what) for m in given)


def _record(
    located: Located, facts: Mapping[str, Fact], problems: Mapping[str, Problem]
) -> RecordSpec:
    fields = located.fields(("text",), ("after", "problems"))
    _check_places(fields["text"], facts)
    after = _known(fields, "after", facts, "facts")
    return RecordSpec(
        after, fields["text"].text(), _known(fields, "problems", problems, "problems")
    )


def _document(located: Located, facts: Mapping[str, Fact]) -> DocumentSpec:
    fields = located.fields(("title", "text"), ("source",))
    _check_places(fields["text"], facts)
    return DocumentSpec(
        fields["title"].text(), fields["text"].text(), _text(fields, "source") or "our own pages"
    )


def _check_places(located: Located, facts: Mapping[str, Fact]) -> None:
    for name in placeholders(located.text()):
        Located(f"{{{name}}}", located.file, located.line, located.field).one_of(
            [f"{{{fact}}}" for fact in facts], "places"
        )


def _lexicon(
    fields: Mapping[str, Located], asked: Mapping[str, Fact], remarks: Mapping[str, Located]
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


def _lines(shared: Located, own: Located | None) -> Mapping[str, Sided]:
    found = {kind: sided(m) for kind, m in shared.fields(USER_LINES, ()).items()}
    for kind, m in (own.fields((), USER_LINES) if own is not None else {}).items():
        found[kind] = sided(m)
    return found


def _words(shared: Located, own: Located | None) -> Mapping[str, tuple[str, ...]]:
    found = {kind: m.texts() for kind, m in shared.fields(AGENT_LINES, ()).items()}
    for kind, m in (own.fields((), AGENT_LINES) if own is not None else {}).items():
        found[kind] = m.texts()
    return found
