"""Notebooks on their way to the process that runs them. Standard library only: it runs in tasks."""

import base64
import os
from collections.abc import Mapping
from typing import Any

from millpond.sdk.dbutils.api import Api
from millpond.workspace.notebooks import (
    EXTENSIONS,
    Cell,
    Language,
    Notebook,
    from_jupyter,
    from_source,
    source_language,
)

VOLUMES = "/Volumes/"


def fetch(api: Api, path: str) -> Notebook:
    """A notebook of the workspace or a volume. Raises FileNotFoundError, PermissionError, InvalidArgument."""
    if path.startswith("file:"):
        return _local(path.removeprefix("file:"))
    if path.startswith(VOLUMES):
        with api.open("GET", "/api/2.0/fs/files" + path) as answer:
            return of_file(path, answer.read())
    told = api.ask("/api/2.0/workspace/export", path=path, format="AUTO")
    return of_file(f"{path}.{told['file_type']}", base64.b64decode(told["content"]))


def _local(path: str) -> Notebook:
    """A notebook of the repository that the task runs from."""
    for place in (path, *(path + end for end in (".ipynb", *EXTENSIONS))):
        if os.path.isfile(place):
            with open(place, "rb") as stream:
                return of_file(place, stream.read())
    raise FileNotFoundError(f"There is no notebook {path} in the repository.")


def of_file(path: str, data: bytes) -> Notebook:
    """The notebook that a file is: `.ipynb`, or source code. Raises InvalidArgument."""
    extension = "." + path.rpartition(".")[2]
    if extension == ".ipynb":
        return from_jupyter(data)
    text = data.decode()
    language = EXTENSIONS.get(extension) or source_language(text)
    if language is None:
        raise ValueError(f"'{path}' is no notebook: it ends in none of .ipynb, {', '.join(EXTENSIONS)}.")
    return from_source(text, language)


def as_notebook(order: Mapping[str, Any]) -> Notebook:
    """The notebook as an order has it."""
    cells = tuple(Cell(**cell) for cell in order["cells"])
    return Notebook(language=Language(order["language"]), cells=cells)


def as_order(notebook: Notebook) -> dict[str, Any]:
    """A notebook as an order has it; without outputs, which are those of another run."""
    cells = [{"source": each.source, "is_markdown": each.is_markdown, "title": each.title} for each in notebook.cells]
    return {"language": notebook.language.value, "cells": cells}
