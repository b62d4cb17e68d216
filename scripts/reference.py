"""Write docs/reference from the docstrings of the public API: ``python scripts/reference.py``."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

import rlchat

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
PAGES = {
    "agents": ("Agents", ["load_agent", "Agent", "Reply", "Message"]),
    "environments": ("Environments", ["make_env", "EnvConfig"]),
    "evaluation": (
        "Evaluation and rollouts",
        ["evaluate", "EvaluationResult", "rollout", "RolloutConfig", "Episode", "Trajectory"],
    ),
    "training": ("Training", ["train", "TrainConfig", "PPOConfig", "sft", "SFTConfig"]),
    "rewards": ("Rewards", ["RewardConfig", "train_reward_model", "load_reward_model"]),
    "chat": ("Conversations", ["ChatSession"]),
    "errors": ("Errors", ["UserError", "RunError"]),
}
NOTE = "<!-- Made by `make reference` from docstrings; change those. -->"
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Example):$", re.MULTILINE)
ENTRY = re.compile(r"^(\*{0,2}\w+): ")
WIDTH = 100


def pages() -> dict[str, str]:
    """The text of every page, by its file's name."""
    out = {"README.md": index()}
    for name, (title, members) in PAGES.items():
        parts = [f"# {title}", NOTE, *(member(m) for m in members)]
        out[f"{name}.md"] = "\n\n".join(parts) + "\n"
    return out


def index() -> str:
    """The list of all names, with the first sentence of each."""
    lines = ["# Reference of the Python API", "", NOTE, ""]
    lines += [
        "Everything here is a name of `rlchat`; `import rlchat` loads it when it is used.",
        "",
    ]
    for name, (title, members) in PAGES.items():
        lines += [f"## [{title}]({name}.md)", ""]
        for m in members:
            first = (inspect.getdoc(public(m)) or "").split("\n")[0].replace("``", "`")
            lines += wrapped(f"[`{m}`]({name}.md#{m.lower()}): {first}", "- ")
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def public(name: str) -> object:
    """The object of a public name; of a folder that can be called, its function."""
    if name == "rollout":
        from rlchat.rollout.episodes import rollout

        return rollout
    found: object = getattr(rlchat, name)
    return found


def member(name: str) -> str:
    """A function's or a class's section."""
    found = public(name)
    node = parsed(found)
    parts = [f"## `{name}`"]
    if isinstance(node, ast.FunctionDef):
        return "\n\n".join([*parts, code(signature(node, name)), *document(node)])
    assert isinstance(found, type)
    parts += [code(heading(found, node, name)), *document(node)]
    nodes = [parsed(c) for c in found.__mro__ if c is found or folded(c)]
    for made in node.body:
        if isinstance(made, ast.FunctionDef) and made.name == "__init__":
            parts += document(made, summary=False)  # what a class takes belongs to the class
    if is_dataclass(found) and (lines := [line for own in nodes for line in fields(own)]):
        parts += ["**Fields**", "\n".join(lines)]
    seen: set[str] = set()
    for own in nodes:
        for method in own.body:
            if isinstance(method, ast.FunctionDef) and method.name not in seen:
                seen.add(method.name)
                parts += list(described(method, name))
    return "\n\n".join(parts)


def folded(base: type) -> bool:
    """Whether a base class's members are shown with those of a class: it is not public itself."""
    ours = base.__module__.partition(".")[0] in ("rlchat", "rlchat_envs")
    return ours and base.__name__ not in rlchat.__all__


def parsed(found: object) -> ast.FunctionDef | ast.ClassDef:
    """The syntax tree of a function or class."""
    node = ast.parse(textwrap.dedent(inspect.getsource(found))).body[0]  # type: ignore[arg-type]
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    return node


def heading(found: type, node: ast.ClassDef, name: str) -> str:
    """How a class is made, or what it derives from."""
    made = next((n for n in node.body if getattr(n, "name", "") == "__init__"), None)
    if isinstance(made, ast.FunctionDef):
        return signature(made, name)
    bases = [b.__name__ for b in found.__mro__[1:] if b.__name__ in rlchat.__all__]
    return f"class {name}({bases[0]})" if bases else f"class {name}"


def signature(node: ast.FunctionDef, name: str) -> str:
    """A call with its annotations, a parameter a line where they do not fit into one."""
    arguments = node.args
    plain = [a for a in arguments.args if a.arg not in ("self", "cls")]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
    taken = [one(a, d) for a, d in zip(plain, defaults, strict=True)]
    taken += ["*"] if arguments.kwonlyargs else []
    taken += map(one, arguments.kwonlyargs, arguments.kw_defaults)
    result = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    whole = f"{name}({', '.join(taken)}){result}"
    if len(whole) <= WIDTH:
        return whole
    return "\n".join([f"{name}(", *(f"    {line}," for line in taken), f"){result}"])


def one(argument: ast.arg, default: ast.expr | None) -> str:
    """One parameter."""
    return ast.unparse(argument) + ("" if default is None else f" = {ast.unparse(default)}")


def described(method: ast.FunctionDef, owner: str) -> Iterator[str]:
    """A public method or property of a class."""
    if method.name.startswith("_"):
        return
    marks = {ast.unparse(d) for d in method.decorator_list}
    yield f"### `{owner}.{method.name}`"
    if "property" in marks:
        assert method.returns is not None
        yield code(f"{method.name}: {ast.unparse(method.returns)}")
    else:
        yield code(signature(method, method.name))
    yield from document(method)


def fields(node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    """The fields of a dataclass as a list, each with its type, default and text."""
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or ast.unparse(field.target).startswith("_"):
            continue
        text = f"`{ast.unparse(field.target)}: {ast.unparse(field.annotation)}"
        made = ast.unparse(field.value) if field.value is not None else ""
        if made.startswith("field(default_factory="):
            factory = made.removeprefix("field(default_factory=").removesuffix(")")
            made = {"list": "[]", "dict": "{}"}.get(factory, f"{factory}()")
        text += f" = {made}`" if made else "`"
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text += f": {' '.join(str(after.value.value).split())}"
        yield from wrapped(text, "- ")


def document(node: ast.FunctionDef | ast.ClassDef, summary: bool = True) -> Iterator[str]:
    """A docstring as Markdown: paragraphs, and its sections as lists."""
    text = (ast.get_docstring(node) or "").replace("``", "`")
    head, *sections = SECTION.split(text)
    if summary:
        yield from (
            "\n".join(wrapped(" ".join(p.split()))) for p in head.split("\n\n") if p.strip()
        )
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        yield f"**{title}**"
        body = textwrap.dedent(body.strip("\n").rstrip())
        yield code(body) if title == "Example" else "\n".join(entries(title, body))


def entries(title: str, body: str) -> Iterator[str]:
    """The entries of a section: a name and what it is; of what is returned, only that."""
    if title == "Returns":
        yield from wrapped(" ".join(body.split()))
        return
    for entry in re.split(r"\n(?=\S)", body):
        yield from wrapped(ENTRY.sub(r"`\1`: ", " ".join(entry.split())), "- ")


def wrapped(text: str, bullet: str = "") -> list[str]:
    """Lines of a paragraph, or of an entry of a list."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def code(text: str) -> str:
    """A block of Python."""
    return f"```python\n{text}\n```"


def main() -> None:
    """Write the pages; those of before that are none any more are removed."""
    FOLDER.mkdir(exist_ok=True)
    texts = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
