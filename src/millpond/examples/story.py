"""Reads a tutorial's Python blocks, so that a page, a demo and a test are one text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADING = re.compile(r"^## (.+)$")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One section of a tutorial and the code in it."""

    title: str
    code: str
    line: int
    """Line of the first block in the page, for tracebacks."""


def read_steps(page: Path) -> Iterator[Step]:
    """The sections of a page that have Python code, in order; blocks of one section are joined."""
    title, code, first_line, fence = "", "", 0, False
    for number, text in enumerate(page.read_text().splitlines(), start=1):
        heading = None if fence else _HEADING.match(text)
        if heading:
            if code:
                yield Step(title=title, code=code, line=first_line)
            title, code, first_line = heading.group(1), "", 0
        elif text == "```python":
            fence, first_line = True, first_line or number + 1
            code += "\n" * (number - first_line - code.count("\n") + 1)  # so that line numbers are those of the page
        elif text.startswith("```"):
            fence = False
        elif fence:
            code += text + "\n"
    if code:
        yield Step(title=title, code=code, line=first_line)
