"""Triples: what a knowledge graph knows, from a scenario or from a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from rlchat_envs.core.facts import Triple

if TYPE_CHECKING:
    import rdflib
    from rdflib.term import Node

ALSO_CALLED = "also called"  # the relation between a thing and another name of it
_COLUMNS = ("subject", "relation", "object", "source")


def read_triples(path: str | Path) -> tuple[Triple, ...]:
    """Read a file of tab-separated columns (.tsv) or of Turtle (.ttl), UTF-8.

    A .tsv line is subject, relation, object and, if you like, source; empty lines, lines that
    start with ``#`` and a first line with the columns' names are skipped. Of Turtle, things and
    relations are called by their ``rdfs:label`` (an English one before others), or by the last
    part of their IRI in words; further labels and ``skos:altLabel`` become other names; nameless
    nodes and declarations of RDF's own vocabulary are left out. ``source`` is the file's name
    where the file names no other.

    Raises:
        ValueError: no such file, another kind of file, or a mistake, named by file and line.
    """
    file = Path(path)
    readers = {".tsv": _read_tsv, ".ttl": _read_turtle}
    if file.suffix.lower() not in readers:
        raise ValueError(
            f"expected a .tsv or .ttl file of triples; got {path}; rename or convert it"
        )
    if not file.is_file():
        raise ValueError(f"expected a file of triples at {path}; got none; check the path")
    triples = tuple(readers[file.suffix.lower()](file))
    if not triples:
        raise ValueError(f"expected triples in {path}; got none; write one a line")
    return triples


def _text(file: Path) -> str:
    raw = file.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"expected UTF-8 in {file}, line {line}; got byte 0x{raw[error.start]:02x}; save the "
            "file as UTF-8"
        ) from error


def _read_tsv(file: Path) -> Iterator[Triple]:
    for number, line in enumerate(_text(file).split("\n"), start=1):
        cells = [" ".join(cell.split()) for cell in line.split("\t")]
        heading = number == 1 and tuple(c.lower() for c in cells) in (_COLUMNS[:3], _COLUMNS)
        if heading or not line.strip() or line.startswith("#"):
            continue
        if len(cells) not in (3, 4):
            raise ValueError(
                f"expected three or four columns ({', '.join(_COLUMNS)}) in {file}, line {number}; "
                f"got {len(cells)}; put one tab between columns"
            )
        empty = [name for name, cell in zip(_COLUMNS[:3], cells, strict=False) if not cell]
        if empty:
            raise ValueError(
                f"expected every column filled in {file}, line {number}; got an empty {empty[0]}; "
                "fill it in"
            )
        subject, relation, thing = cells[:3]
        yield Triple(subject, relation, thing, "".join(cells[3:]) or file.name)


def _read_turtle(file: Path) -> Iterator[Triple]:
    from rdflib import Graph
    from rdflib.plugins.parsers.notation3 import BadSyntax

    graph, text = Graph(), _text(file)
    try:
        graph.parse(data=text, format="turtle", publicID=file.resolve().as_uri())
    except BadSyntax as error:
        raise ValueError(
            f"expected Turtle in {file}, line {error.lines + 1}; got {error._why}; mend that line"
        ) from error
    except (IndexError, ValueError) as error:  # it ends too early; a language that is none
        raise ValueError(f"expected Turtle in {file}; got {error}; mend that") from error
    # rdflib keeps sets: without the sorting two runs would differ.
    yield from sorted(
        _facts(graph, file.name), key=lambda t: (t.subject, t.relation, t.object, t.source)
    )


def _facts(graph: rdflib.Graph, source: str) -> Iterator[Triple]:
    from rdflib import OWL, RDF, RDFS, SKOS, Literal, URIRef

    names = {node: _names(graph, node) for node in graph.all_nodes()}
    for node, (name, *others) in ((n, found) for n, found in names.items() if found):
        if isinstance(node, Literal):
            continue
        also = [str(label) for label in graph.objects(node, SKOS.altLabel)]
        for other in dict.fromkeys(others + also):
            yield Triple(name, ALSO_CALLED, other, source)
    for subject, relation, thing in graph:
        if relation in (RDFS.label, SKOS.altLabel) or not (names[subject] and names[thing]):
            continue
        if isinstance(thing, URIRef) and any(thing in space for space in (RDF, RDFS, OWL)):
            continue
        called = "is a" if relation == RDF.type else (_names(graph, relation) or [""])[0]
        yield Triple(names[subject][0], called, names[thing][0], source)


def _names(graph: rdflib.Graph, node: Node) -> list[str]:
    """What a node is called, the best name first; nothing for a nameless one."""
    from rdflib import RDFS, Literal, URIRef

    if isinstance(node, Literal):
        return [" ".join(str(node).split())]
    labels = [label for label in graph.objects(node, RDFS.label) if isinstance(label, Literal)]
    labels.sort(key=lambda label: (not (label.language or "en").startswith("en"), str(label)))
    if labels:
        return list(dict.fromkeys(" ".join(label.split()) for label in labels))
    return [_local_name(str(node))] if isinstance(node, URIRef) else []


def _local_name(iri: str) -> str:
    """The last part of an IRI in words.

    >>> _local_name("https://example.org/funds#yearlyCost"), _local_name("urn:x:Bond_fund")
    ('yearly cost', 'Bond fund')
    """
    last = unquote(re.split(r"[/#:]", iri.rstrip("/#:"))[-1]).replace("_", " ").replace("-", " ")
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", last)
    return last if spaced == last else spaced.lower()
