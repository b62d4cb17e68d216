"""The schema as a page for people: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from starlette.responses import HTMLResponse

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; }
tr { border-bottom: 1px solid #8888; }
code, pre { font-family: ui-monospace, monospace; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid #8888; }
"""
_EXAMPLE = """curl {url}/v1/chat/completions \\
  -H 'Content-Type: application/json' \\
  -d '{{"model": "MODEL", "messages": [{{"role": "user", "content": "Where is my parcel?"}}]}}'"""


def docs_page(schema: Mapping[str, Any]) -> HTMLResponse:
    """The page, with the policy that lets its style be used and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'"
    )
    policy += "; form-action 'none'"
    return HTMLResponse("".join(_page(schema)), headers={"Content-Security-Policy": policy})


def _page(schema: Mapping[str, Any]) -> Iterator[str]:
    about = schema["info"]
    title = escape(f"{about['title']} {about['version']}")
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
    yield f"<p>{escape(about.get('description', ''))} With keys, send "
    yield "<code>Authorization: Bearer KEY</code>. The schema itself: "
    yield '<a href="/openapi.json">/openapi.json</a>.</p>'
    yield f"<pre>{escape(_EXAMPLE.format(url='http://127.0.0.1:8000'))}</pre>"
    yield "<h2>Endpoints</h2><table><tr><th>method</th><th>path</th><th>what it does</th></tr>"
    for path, methods in schema["paths"].items():
        for method, told in methods.items():
            said = escape(told.get("description", ""))
            yield f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td>"
            yield f"<td>{said}</td></tr>"
    yield "</table>"
    schemas = schema["components"]["schemas"]
    for name in ("ChatRequest", "ChatMessage", "ChatCompletion", "ReplyChoice", "ChatChunk"):
        yield from _table(name, schemas[name])
    yield "</main></body></html>"


def _table(name: str, model: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a model."""
    yield f"<h2>{escape(name)}</h2><p>{escape(model.get('description', ''))}</p>"
    yield "<table><tr><th>field</th><th>type</th><th></th></tr>"
    needed = model.get("required", ())
    for field, told in model["properties"].items():
        mark = "needed. " if field in needed else ""
        yield f"<tr><td><code>{escape(field)}</code></td><td>{escape(_type(told))}</td>"
        yield f"<td>{escape(mark + told.get('description', ''))}</td></tr>"
    yield "</table>"


def _type(told: Mapping[str, Any]) -> str:
    """A field's type in words."""
    if "anyOf" in told:
        kinds = dict.fromkeys(_type(kind) for kind in told["anyOf"] if kind.get("type") != "null")
        return " or ".join(kinds)
    if "$ref" in told:
        return str(told["$ref"]).rpartition("/")[2]
    if told.get("type") == "array":
        return f"list of {_type(told.get('items', {}))}"
    if "enum" in told or "const" in told:
        return " | ".join(str(value) for value in told.get("enum", [told.get("const")]))
    low = told.get("minimum", told.get("exclusiveMinimum"))
    span = "" if low is None or "maximum" not in told else f", {low} to {told['maximum']}"
    return f"{told.get('type', 'any')}{span}"
