"""Notebooks as cells, read from and written in both formats: Databricks' source files, and Jupyter's `.ipynb`.

Pure, and standard library only. Source of the first: "Export and import Databricks notebooks" of the documentation; of
the second: nbformat 4.5 (https://nbformat.readthedocs.io).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from millpond.kernel.errors import InvalidArgument


class Language(StrEnum):
    """Of a notebook's cells that do not say another."""

    PYTHON = "PYTHON"
    SQL = "SQL"
    SCALA = "SCALA"
    R = "R"


EXTENSIONS = {
    ".py": Language.PYTHON,
    ".sql": Language.SQL,
    ".scala": Language.SCALA,
    ".r": Language.R,
    ".R": Language.R,
}
_COMMENTS = {Language.PYTHON: "#", Language.R: "#", Language.SQL: "--", Language.SCALA: "//"}
_HEADER = "Databricks notebook source"
_TITLE = re.compile(r"DBTITLE \d,(.*)")
_BETWEEN = "COMMAND ----------"
_CELL_FACTS = "application/vnd.databricks.v1+cell"
_NOTEBOOK_FACTS = "application/vnd.databricks.v1+notebook"
_MOST_CELLS = 5000


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell. Code in another language than the notebook's begins with its magic: `%sql`."""

    source: str
    is_markdown: bool = False
    title: str = ""
    outputs: tuple[Mapping[str, Any], ...] = ()
    """As nbformat has them."""


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """Cells, and the language of those that do not say another."""

    language: Language
    cells: tuple[Cell, ...]


def source_language(text: str) -> Language | None:
    """The languages whose source files begin as this text does; None where it is no notebook."""
    first = text.lstrip("\ufeff").split("\n", 1)[0].strip()
    found = [language for language, comment in _COMMENTS.items() if first == f"{comment} {_HEADER}"]
    return found[0] if found else None


def with_header(text: str, language: Language) -> str:
    """Source with the line that makes it a notebook."""
    return text if source_language(text) else f"{_COMMENTS[language]} {_HEADER}\n{text}"


# -- source files -----------------------------------------------------------------------------------------------------


def from_source(text: str, language: Language) -> Notebook:
    """The notebook of a source file. Raises InvalidArgument for one of more cells than there may be."""
    comment = _COMMENTS[language]
    lines = text.lstrip("\ufeff").replace("\r\n", "\n").split("\n")
    lines = lines[1:] if source_language(text) else lines
    cells: list[list[str]] = [[]]
    for line in lines:
        if line.rstrip() == f"{comment} {_BETWEEN}":
            cells.append([])
        else:
            cells[-1].append(line)
    return _bounded(language, [_source_cell(cell, comment) for cell in cells if any(map(str.strip, cell))])


def _source_cell(lines: list[str], comment: str) -> Cell:
    title = ""
    kept: list[str] = []
    for line in lines:
        if not any(kept) and not title and (found := _TITLE.fullmatch(line.removeprefix(f"{comment} "))):
            title = found[1]
        else:
            kept.append(re.sub(rf"^{comment} MAGIC ?", "", line))
    source = "\n".join(kept).strip("\n")
    first, _, rest = source.partition("\n")
    if first.split()[:1] in (["%md"], ["%md-sandbox"]):
        words = first.split(None, 1)[1:]
        return Cell(source="\n".join([*words, *([rest] if rest else [])]), is_markdown=True, title=title)
    return Cell(source=source, title=title)


def to_source(notebook: Notebook) -> str:
    """The notebook as a source file."""
    comment = _COMMENTS[notebook.language]
    cells = [_cell_lines(cell, comment) for cell in notebook.cells]
    return f"{comment} {_HEADER}\n" + f"\n\n{comment} {_BETWEEN}\n\n".join(cells) + "\n"


def _cell_lines(cell: Cell, comment: str) -> str:
    title = [f"{comment} DBTITLE 1,{cell.title}"] if cell.title else []
    source = f"%md\n{cell.source}" if cell.is_markdown else cell.source
    lines = source.split("\n")
    if source.startswith(("%", "!")):
        lines = [f"{comment} MAGIC {line}".rstrip() for line in lines]
    return "\n".join([*title, *lines])


# -- Jupyter ----------------------------------------------------------------------------------------------------------


def from_jupyter(data: bytes) -> Notebook:
    """The notebook of an `.ipynb` file. Raises InvalidArgument."""
    try:
        found = json.loads(data)
        if found["nbformat"] != 4:
            raise InvalidArgument(f"The notebook is of nbformat {found['nbformat']!r:.20}; save it as version 4.")
        cells = [_jupyter_cell(cell) for cell in found["cells"] if cell["cell_type"] in ("code", "markdown")]
        return _bounded(_jupyter_language(found.get("metadata") or {}), cells)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidArgument(
            f"The content is no Jupyter notebook ({type(error).__name__}: {str(error)[:80]})."
        ) from error


def _jupyter_cell(cell: Mapping[str, Any]) -> Cell:
    facts = (cell.get("metadata") or {}).get(_CELL_FACTS) or {}
    return Cell(
        source=_text(cell["source"]),
        is_markdown=cell["cell_type"] == "markdown",
        title=str(facts.get("title") or ""),
        outputs=tuple(output for output in cell.get("outputs") or () if isinstance(output, dict)),
    )


def _jupyter_language(metadata: Mapping[str, Any]) -> Language:
    named = (
        (metadata.get(_NOTEBOOK_FACTS) or {}).get("language"),
        (metadata.get("language_info") or {}).get("name"),
        (metadata.get("kernelspec") or {}).get("language"),
        "python",
    )
    name = next(str(each) for each in named if each).upper()
    try:
        return Language(name)
    except ValueError as error:
        raise InvalidArgument(f"The notebook is in '{name[:40]}'; one of {', '.join(Language)}.") from error


def _text(source: str | Iterable[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def to_jupyter(notebook: Notebook) -> dict[str, Any]:
    """The notebook as nbformat 4.5 has it."""
    language = notebook.language.value.lower()
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {_NOTEBOOK_FACTS: {"language": language}, "language_info": {"name": language}},
        "cells": [_cell_json(number, cell) for number, cell in enumerate(notebook.cells)],
    }


def _cell_json(number: int, cell: Cell) -> dict[str, Any]:
    facts = {_CELL_FACTS: {"title": cell.title, "showTitle": True}} if cell.title else {}
    told = {"id": f"cell-{number}", "metadata": facts, "source": cell.source.splitlines(keepends=True)}
    if cell.is_markdown:
        return {"cell_type": "markdown", **told}
    return {"cell_type": "code", "execution_count": None, "outputs": list(cell.outputs), **told}


def _bounded(language: Language, cells: list[Cell]) -> Notebook:
    if len(cells) > _MOST_CELLS:
        raise InvalidArgument(f"The notebook has {len(cells)} cells; at most {_MOST_CELLS}.")
    return Notebook(language=language, cells=tuple(cells))
