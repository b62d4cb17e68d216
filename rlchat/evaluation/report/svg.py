"""matplotlib's figures as SVG that lies in a page and takes its colors from there."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
INK, PAPER, GRID = "#000001", "#000002", "#000003"
"""Colors that stand for the page's own: its text, its background, and lines in the background."""
SERIES = tuple(f"#0000{16 + i:02x}" for i in range(8))
"""Colors of series of data; the page has as many, for light and for dark."""
LEVELS = tuple(f"#0000{32 + i:02x}" for i in range(9))
"""Colors from the lowest to the highest value."""
_CLASSES = {INK: "ink", PAPER: "paper", GRID: "grid"}
_CLASSES |= {color: f"s{i}" for i, color in enumerate(SERIES)}
_CLASSES |= {color: f"l{i}" for i, color in enumerate(LEVELS)}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


def drawn(draw: Callable[[Any], None], title: str, name: str, size: tuple[float, float]) -> Markup:
    """Draw a figure and give it as SVG.

    Args:
        draw: is given the figure.
        title: what it shows, for those who cannot see it.
        name: a word that no other figure of the page has: ids begin with it.
        size: width and height in inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    out = io.StringIO()
    with matplotlib.rc_context(_SETTINGS | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that its fonts lack: the page has them
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _cleaned(out.getvalue(), title, name)


def _cleaned(text: str, title: str, name: str) -> Markup:
    """Leave out what a page must not have, and put classes in the place of colors.

    Styles become attributes: the page allows no style but its own. ids get the name before them.
    """
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _restyle(element)
        if element.tag == f"{{{_SVG}}}g":
            element.attrib.pop("id", None)
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif value.startswith("#") and key == f"{{{_LINK}}}href":
                del element.attrib[key]
                element.set("href", f"#{name}-{value[1:]}")
            elif value.startswith("url(#"):
                element.set(key, f"url(#{name}-{value[5:]}")
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": title, "class": "plot"}
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    ElementTree.register_namespace("", _SVG)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _restyle(element: ElementTree.Element) -> None:
    """Make an element's style into attributes, and its colors into classes."""
    style = element.attrib.pop("style", "")
    for declaration in filter(None, (d.strip() for d in style.split(";"))):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":
            size = re.search(r"([\d.]+)px", value)
            element.set("font-size", size[1] if size else "10")
        elif key != "transform-origin":
            element.set(key, value)
    classes = []
    for key, kind in (("fill", "f"), ("stroke", "k")):
        value = element.attrib.get(key, "").lower()
        if value in _CLASSES:
            del element.attrib[key]
            classes.append(f"{kind}-{_CLASSES[value]}")
    if element.tag == f"{{{_SVG}}}text" and not any(c.startswith("f-") for c in classes):
        classes.append("f-ink")
    if classes:
        element.set("class", " ".join(classes))
