"""Reads sources: Python, SQL and notebooks, as they are."""

import json
import linecache
import re
from collections.abc import Mapping
from typing import Any

from millpond.sdk.pipelines.declaring import modules
from millpond.sdk.pipelines.domain import Location, PipelineFailed, Spec
from millpond.sdk.pipelines.events import Events
from millpond.sdk.pipelines.registry import Registry, collecting
from millpond.sdk.pipelines.statements import declare

_SQL_CELL_END = "-- COMMAND ----------"
_MAGIC = re.compile(r"^\s*(?:#|--) MAGIC\s+(%(?:run|pip)\b.*)$", re.MULTILINE)
_CELL_MAGIC = re.compile(r"\s*%%?(\w+)")


def read_sources(spec: Spec, registry: Registry, spark: Any, events: Events) -> None:
    """Declare all that the sources do. Raises PipelineFailed, with the file and line."""
    with collecting(registry), modules():
        for source in spec.sources:
            text, path = source["text"], source["path"]
            for passed in _MAGIC.findall(text):
                events.warn(f"{path}: '{passed.strip()[:80]}' is passed over; it does nothing in a pipeline.")
            _read(source["kind"], text, path, registry, spec.configuration, spark)
    registry.finish()


def _read(kind: str, text: str, path: str, registry: Registry, configuration: Mapping[str, str], spark: Any) -> None:
    if kind == "notebook" and text.lstrip().startswith("{"):
        _read_jupyter(text, path, registry, configuration, spark)
    elif kind == "sql" or (kind == "notebook" and _is_sql(text, path)):
        lines = [";" if line.rstrip() == _SQL_CELL_END else line for line in text.split("\n")]
        declare(registry, "\n".join(lines), path, configuration)
    else:
        _run(text, path, _names(spark))


def _is_sql(text: str, path: str) -> bool:
    return path.endswith(".sql") or text.lstrip("\ufeff").startswith("-- Databricks notebook source")


def _read_jupyter(text: str, path: str, registry: Registry, configuration: Mapping[str, str], spark: Any) -> None:
    try:
        notebook = json.loads(text)
        cells = [each for each in notebook["cells"] if each["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineFailed(f"{path} is no notebook.") from error
    language = str((notebook.get("metadata") or {}).get("language_info", {}).get("name", "python")).lower()
    names = _names(spark)
    for number, cell in enumerate(cells, 1):
        code = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        where = f"{path} (cell {number})"
        magic = _CELL_MAGIC.match(code)
        spoken = magic[1] if magic else language
        if spoken == "sql":
            declare(registry, code[magic.end() :] if magic else code, where, configuration)
        elif spoken == "python":
            _run(code[magic.end() :] if magic else code, where, names)


def _names(spark: Any) -> dict[str, Any]:
    return {"__name__": "__main__", "spark": spark, "display": lambda *_given, **_options: None}


def _run(text: str, path: str, names: dict[str, Any]) -> None:
    """Run Python, whose lines tracebacks can show."""
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    names["__file__"] = path
    try:
        exec(compile(text, path, "exec"), names)  # noqa: S102 - it is the user's own, in a process for it
    except PipelineFailed:
        raise
    except SyntaxError as error:
        raise PipelineFailed(f"{Location(path=path, line=error.lineno)}: SyntaxError: {error.msg}") from error
    except Exception as error:  # the boundary of a user's code
        raise PipelineFailed(f"{_place(error, path)}: {type(error).__name__}: {error}") from error


def _place(error: BaseException, path: str) -> Location:
    lines, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return Location(path=path, line=lines[-1] if lines else None)
