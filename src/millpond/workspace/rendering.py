"""Notebooks as one HTML page that needs nothing else: cells, and the outputs that they have.

Sources and texts are escaped. What a cell put out as HTML stands as it is, in a frame of its own that may run its
scripts and reach nothing of the page around it.
"""

import base64
import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from markdown_it import MarkdownIt

from millpond.workspace.notebooks import Cell, Notebook

_IMAGES = ("image/png", "image/jpeg", "image/gif")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2733; }
pre { font: 13px/1.45 ui-monospace, monospace; white-space: pre-wrap; margin: 0; padding: .6rem .8rem; }
.code { background: #f4f6f8; border-left: 3px solid #b7c2cc; margin-top: 1rem; }
.error { background: #fdf0ef; border-left: 3px solid #c0392b; }
.title { font-weight: 600; margin: 1rem 0 0; }
iframe { width: 100%; min-height: 12rem; border: 0; resize: vertical; }
img { max-width: 100%; }
table { border-collapse: collapse; }
th, td { border: 1px solid #d5dbe1; padding: .2rem .6rem; }
"""
_FRAME_STYLE = """<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: .4rem .8rem; color: #1c2733; }
table { border-collapse: collapse; }
th, td { border: 1px solid #d5dbe1; padding: .2rem .6rem; text-align: right; }
</style>
"""


def to_html(notebook: Notebook, title: str) -> str:
    """The page."""
    body = "\n".join(_cell(cell) for cell in notebook.cells)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _cell(cell: Cell) -> str:
    title = f'<p class="title">{html.escape(cell.title)}</p>' if cell.title else ""
    if cell.is_markdown:
        return title + _markdown(cell.source)
    code = f'<pre class="code">{html.escape(cell.source)}</pre>'
    return "\n".join([title + code, *(_output(output) for output in cell.outputs)])


def _output(output: Mapping[str, Any]) -> str:
    if output.get("output_type") == "stream":
        return _pre(output.get("text"))
    if output.get("output_type") == "error":
        lines = output.get("traceback")
        return _pre("\n".join(map(str, lines)) if isinstance(lines, list) else lines, "error")
    data = output.get("data")
    return _rich(data) if isinstance(data, Mapping) else ""


def _rich(data: Mapping[str, Any]) -> str:
    """The richest of what an output can be shown as."""
    if "text/html" in data:
        inside = html.escape(_FRAME_STYLE + _joined(data["text/html"]))
        return f'<iframe sandbox="allow-scripts" srcdoc="{inside}"></iframe>'
    for kind in _IMAGES:
        if kind in data:
            return f'<img alt="" src="data:{kind};base64,{_base64(_joined(data[kind]))}">'
    if "image/svg+xml" in data:
        inside = base64.b64encode(_joined(data["image/svg+xml"]).encode()).decode()
        return f'<img alt="" src="data:image/svg+xml;base64,{inside}">'
    if "text/markdown" in data:
        return _markdown(_joined(data["text/markdown"]))
    return _pre(data.get("text/plain"))


def _pre(text: Any, kind: str = "output") -> str:
    return f'<pre class="{kind}">{html.escape(_ANSI.sub("", _joined(text)))}</pre>'


def _markdown(text: str) -> str:
    return str(MarkdownIt("js-default").render(text))


def _joined(text: Any) -> str:
    if isinstance(text, str) or text is None:
        return text or ""
    return "".join(map(str, text)) if isinstance(text, Iterable) else str(text)


def _base64(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9+/=]", "", text)
