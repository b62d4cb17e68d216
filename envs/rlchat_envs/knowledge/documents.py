"""Documents: what the desk can read up, from a scenario or from a folder of text files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from rlchat_envs.core.facts import Document

SUFFIXES = (".txt", ".md")
PASSAGE_WORDS = 100  # a passage is a few paragraphs, so that what is found says where it is

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[^a-z])|\n\s*\n|\n(?=\s*(?:[-*•|#>]|\d+[.)]\s))")


def read_folder(path: str | Path) -> tuple[Document, ...]:
    """Read all .txt and .md files in a folder and below it, hidden ones left out.

    Args:
        path: the folder; its files are UTF-8.

    Returns:
        Passages of about `PASSAGE_WORDS` words, cut at the borders of paragraphs; in the order of
        the files' paths. ``source`` is the path inside the folder, with ``#N`` after it if the file
        gave several. ``title`` is the file's first Markdown heading, or its name in words.

    Raises:
        ValueError: no such folder, nothing to read in it, or a file that is not UTF-8.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(
            f"expected a folder of text files; got {path}, which is none; check the path"
        )
    found = tuple(document for file in _files(folder) for document in _read(file, folder))
    if not found:
        raise ValueError(
            f"expected {' or '.join(SUFFIXES)} files with text in {path}; got none; put some there"
        )
    return found


def sentences(text: str) -> list[str]:
    """Cut a text at the ends of sentences, paragraphs and list items; white space is single."""
    return [" ".join(part.split()) for part in _SENTENCE.split(text) if part.strip()]


def _files(folder: Path) -> list[Path]:
    """Text files in the order of their names, whatever order the disk has."""
    inside = {file: file.relative_to(folder) for file in folder.rglob("*")}
    return sorted(
        file
        for file, name in inside.items()
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in name.parts)
        and file.is_file()
    )


def _read(file: Path, folder: Path) -> Iterator[Document]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected UTF-8 text in {file}; got byte 0x{error.object[error.start]:02x} at "
            f"position {error.start}; save the file as UTF-8"
        ) from error
    name = file.relative_to(folder).as_posix()
    heading = _HEADING.search(text) if file.suffix.lower() == ".md" else None
    title = heading[1] if heading else " ".join(re.split(r"[\s_-]+", file.stem)).strip()
    passages = list(_passages(_PARAGRAPH.split(text.strip())))
    for number, passage in enumerate(passages, start=1):
        yield Document(title, passage, f"{name}#{number}" if len(passages) > 1 else name)


def _passages(paragraphs: Iterable[str]) -> Iterator[str]:
    """Join paragraphs while they are short; a heading opens a passage."""
    held: list[str] = []
    for part in (part for paragraph in paragraphs for part in _shortened(paragraph)):
        length = sum(len(p.split()) for p in (*held, part))
        if held and (length > PASSAGE_WORDS or _HEADING.match(part)):
            yield "\n\n".join(held)
            held = []
        held.append(part)
    if held:
        yield "\n\n".join(held)


def _shortened(paragraph: str) -> Iterator[str]:
    """A paragraph as it is, or in runs of whole sentences if it is longer than a passage."""
    if len(paragraph.split()) <= PASSAGE_WORDS:
        if paragraph.strip():
            yield paragraph.strip()
        return
    held: list[str] = []
    for sentence in sentences(paragraph):
        if held and len(" ".join([*held, sentence]).split()) > PASSAGE_WORDS:
            yield " ".join(held)
            held = []
        held.append(sentence)
    if held:
        yield " ".join(held)
