"""Verb `explain attention`: one head's weights over a sentence, and one of them worked out."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from rlchat.cli.explain.options import AttentionOptions
from rlchat.cli.explain.shading import background, in_color
from rlchat.cli.live.progress import Progress
from rlchat.cli.terminal import printable, say
from rlchat.errors import UserError
from rlchat.evaluation.attribution.sentence import Head, WorkedPair, attend_to, draw, work_out
from rlchat.settings import names

_CELL = 4  # columns of a weight
_NUMBERS = 4  # of a query or key that are shown


def run_attention(options: AttentionOptions, console: Console) -> None:
    """Show heads in the terminal, and draw them into a file if one was named."""
    if options.out is not None and not options.out.resolve().parent.is_dir():
        raise UserError(f"expected a file in a folder that exists; got --out {options.out}")
    wanted = names(options.model)
    if not wanted:
        raise UserError("expected a model after --model; got none")
    with Progress(console) as progress:
        heads = [
            attend_to(name, options.sentence, options.layer, options.head, progress.say)
            for name in wanted
        ]
    for head in heads:
        for line in picture(head, console):
            console.print(line, soft_wrap=True)
        for text in formula(head, work_out(head, options.from_, options.to)):
            console.print(Text(printable(text)), soft_wrap=not console.is_terminal)
        console.print()
    if options.out is not None:
        draw(heads, options.out)
        say(console, f"Drawn into {options.out}.")


def picture(head: Head, console: Console) -> Iterator[Text]:
    """A row for each token that attends, and a column for each that is attended to."""
    sees = "sees itself and earlier tokens" if head.causal else "sees all tokens"
    title = f"{head.kind} {head.model}, layer {head.layer}, head {head.head}: each token {sees}"
    yield Text(printable(title), "bold")
    labels = [_label(i, token) for i, token in enumerate(head.tokens)]
    widest = min(16, max(map(cell_len, labels)))
    wide = widest + 1 + _CELL * len(labels)
    if console.is_terminal and console.width < wide:
        yield Text(f"(the drawing needs {wide} columns; --out FILE.svg draws a picture)", "dim")
        return
    yield Text(" " * (widest + 1) + "".join(f"{i:>{_CELL}}" for i in range(len(labels))), "dim")
    for i, label in enumerate(labels):
        row = Text(set_cell_size(label, widest) + " ")
        for j, weight in enumerate(head.weights[i].tolist()):
            hidden = head.causal and j > i
            percent = "" if hidden else f"{100 * weight:.0f}"
            row.append(
                f"{percent:>{_CELL}}",
                background(weight, 1.0) if in_color(console) and not hidden else "",
            )
        yield row
    yield Text("weights in percent; a row attends (query), columns are attended to (keys)", "dim")


def formula(head: Head, pair: WorkedPair) -> Iterator[str]:
    """The formula, and one weight with its numbers put in."""
    size, row, column = head.query.shape[1], pair.row, pair.column
    yield "attention(Q, K, V) = softmax(Q Kᵀ / √d) V"
    yield (
        f"how much {_label(row, head.tokens[row])!r} attends to "
        f"{_label(column, head.tokens[column])!r}, with d = {size}:"
    )
    yield f"  q = {_numbers(head.query[row].tolist())}"
    yield f"  k = {_numbers(head.key[column].tolist())}"
    yield f"  q · k = {pair.product:.3f}"
    yield f"  q · k × {head.scale:.4g} = {pair.scaled:.3f}   {_root(head.scale, size)}"
    seen = int((head.weights[row] > 0).sum())
    yield f"  e^{pair.scaled:.3f} / sum over {seen} keys = weight"
    yield f"  {_exp(pair)} / {pair.total:.4g} = {pair.weight:.4f}"
    if not head.plain:
        yield (
            f"  This model also bounds its products, or gives weight to no token: the weight is "
            f"{float(head.weights[row, column]):.4f} there."
        )


def _exp(pair: WorkedPair) -> str:
    return f"{pair.weight * pair.total:.4g}"


def _root(scale: float, size: int) -> str:
    return f"(1/√{size})" if abs(scale - size**-0.5) < 1e-6 else "(the model's own scale)"


def _numbers(values: list[float]) -> str:
    shown = ", ".join(f"{v:+.2f}" for v in values[:_NUMBERS])
    return f"({shown}, …)" if len(values) > _NUMBERS else f"({shown})"


def _label(number: int, token: str) -> str:
    shown = printable(token).replace("\n", " ").strip() or "␣"
    return f"{number} {shown}"
