"""Runs a notebook cell by cell, with the magics that Databricks' notebooks have. It runs in tasks.

A task may run in an interpreter that has none of our packages; IPython is all that it must have.
"""

import json
import posixpath
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from millpond.jobs.fetching import fetch
from millpond.jobs.recording import Recorder
from millpond.jobs.shell import Shell, open_shell, run_shell
from millpond.sdk.dbutils import DbUtils
from millpond.sdk.dbutils.api import Api
from millpond.sdk.dbutils.notebook import NotebookExit, PythonRestart
from millpond.workspace.notebooks import Cell, Language, Notebook, to_jupyter

_MOST_ROWS = 1000
"""Of a table that is displayed."""
_KEEP_S = 1.0
_QUICK_S = 0.05
"""A notebook that is kept within this time is kept before each cell, any other once in `_KEEP_S`."""
_DEEPEST = 20
_LONGEST_TRACE = 20000
_OTHERS = ("scala", "r")
_MAGIC = re.compile(r"\s*%%?([a-z_]+)[ \t]*")


class _Failed(Exception):
    """A cell failed; its traceback is recorded."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class NotebookRun:
    """One notebook, in one namespace."""

    def __init__(
        self, notebook: Notebook, path: str, *, utils: DbUtils, api: Api, keep: Callable[[dict[str, Any]], None],
        installed: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`keep` is given the notebook with the outputs that it has by now, now and then, and at the end."""
        self._notebook = notebook
        self._place = posixpath.dirname(path)
        self._utils = utils
        self._api = api
        self._keep = keep
        self._installed = installed
        self._recorder = Recorder()
        self._keep_from = 0.0
        self._depth = 0
        self._magics: Mapping[str, Callable[[str], None]] = {
            "python": self._python, "sql": self._sql, "md": self._markdown, "sh": self._sh, "fs": self._fs,
            "run": self._run_other, "pip": self._pip, "restart_python": lambda _text: self.restart(),
        }  # fmt: skip

    def run(self) -> dict[str, Any]:
        """Run all cells; how it ended, as `result.json` says it, with `result` where it ended with a value."""
        self._shell: Shell = open_shell(self._recorder)
        self._fill()
        try:
            for number, cell in enumerate(to_jupyter(self._notebook)["cells"]):
                self._recorder.begin({**cell, "outputs": []} if cell["cell_type"] == "code" else {**cell})
                self._keep_so_far()
                self._cell(self._notebook.cells[number], number + 1)
            return {"ok": True}
        except NotebookExit as ended:
            return {"ok": True, "result": ended.value}
        except _Failed as failed:
            return self._failure(failed.error)
        finally:
            self._keep(self._told())

    def restart(self) -> None:
        """Forget all names but ours."""
        self._shell.reset(new_session=False)
        self._fill()

    # -- cells ------------------------------------------------------------------------------------------------------

    def _cell(self, cell: Cell, number: int) -> None:
        if cell.is_markdown or not cell.source.strip():
            return
        self._recorder.cells[-1]["execution_count"] = self._shell.execution_count = number
        self._guarded(self._execute, cell.source, self._notebook.language)

    def _keep_so_far(self) -> None:
        """What the cells before put out, as the next one may take hours, or end the process."""
        began = time.monotonic()
        if began >= self._keep_from:
            self._keep(self._told())
            took = time.monotonic() - began
            self._keep_from = began + took + (0.0 if took < _QUICK_S else _KEEP_S)

    def _execute(self, source: str, language: Language) -> None:
        found = _MAGIC.match(source)
        name = found[1] if found else language.value.lower()
        if name in _OTHERS:
            self._guarded(_refuse, f"Cells in {name.capitalize()} do not run here; Python, SQL and sh do.")
        elif name in self._magics:
            self._magics[name](source[found.end() :] if found else source)
        else:
            self._python(source)

    def _python(self, source: str) -> None:
        """Run code; the session of Spark is there where it is spoken of."""
        if re.search(r"\bspark\b", source):
            self._guarded(self._open_spark)
        done = self._shell.run_cell(source.lstrip("\n"), store_history=True)
        error = done.error_before_exec or done.error_in_exec
        if isinstance(error, NotebookExit):
            raise error
        if isinstance(error, PythonRestart):
            self.restart()
        elif error is not None:
            raise _Failed(error)

    def _guarded(self, act: Callable[..., Any], *given: Any) -> Any:
        """Do something of ours; what it raises is the cell's failure, shown as one."""
        try:
            return act(*given)
        except (NotebookExit, _Failed):
            raise
        except Exception as error:  # the boundary of a cell
            self._shell.show_error(error)
            raise _Failed(error) from error

    # -- magics -----------------------------------------------------------------------------------------------------

    def _sql(self, text: str) -> None:
        def query() -> None:
            spark = self._open_spark()
            for statement in _statements(text):
                self._shell.user_ns["_sqldf"] = found = spark.sql(statement)
            self.display(found)

        self._guarded(query)

    def _markdown(self, text: str) -> None:
        self._recorder.show({"text/markdown": text.lstrip("\n"), "text/plain": text.strip()}, None)

    def _sh(self, text: str) -> None:
        def run() -> None:
            if code := run_shell(text):
                raise RuntimeError(f"The shell ended with code {code}.")

        self._guarded(run)

    def _fs(self, text: str) -> None:
        name, *given = shlex.split(text)
        act = self._guarded(getattr, self._utils.fs, name)
        found = self._guarded(act, *given)
        if isinstance(found, list):
            print("\n".join(f"{each.path}\t{each.size}" for each in found))
        elif isinstance(found, str):
            print(found)

    def _run_other(self, text: str) -> None:
        """Run another notebook's cells as if they stood here; their outputs are this cell's."""
        path, *given = self._guarded(shlex.split, text)
        values = dict(each.removeprefix("$").split("=", 1) for each in given)
        self._guarded(self._deeper)
        other = self._guarded(fetch, self._api, self.resolved(path))
        outside, self._place = self._place, posixpath.dirname(self.resolved(path))
        self._utils.widgets.give(values)
        try:
            for cell in other.cells:
                if not cell.is_markdown and cell.source.strip():
                    self._execute(cell.source, other.language)
        finally:
            self._place = outside
            self._depth -= 1

    def _deeper(self) -> None:
        if self._depth >= _DEEPEST:
            raise RecursionError(f"%run is nested more than {_DEEPEST} deep.")
        self._depth += 1

    def _pip(self, text: str) -> None:
        """What was found before the start is installed by now; the rest of the cell is Python."""
        line, _, rest = text.partition("\n")
        if line.strip() not in self._installed:
            message = (
                f"%pip {line.strip()[:80]}: only `%pip install` of packages by name, and only in the task's notebook."
            )
            self._guarded(_refuse, message)
        print(f"%pip {line.strip()}: done before the notebook began.")
        if rest.strip():
            self._python(rest)

    # -- names ------------------------------------------------------------------------------------------------------

    def resolved(self, path: str) -> str:
        """A notebook's path from the root; relative ones are to the notebook that runs."""
        return posixpath.normpath(path if path.startswith("/") else posixpath.join(self._place, path))

    def display(self, value: Any, *more: Any, **options: Any) -> None:
        """Show something; of a table, its first rows."""
        from IPython.display import display

        for each in (value, *more):
            is_spark = hasattr(each, "toPandas") and hasattr(each, "limit")
            frame = each.limit(_MOST_ROWS).toPandas() if is_spark else each
            if type(frame).__module__.startswith("pandas.") and hasattr(frame, "to_html"):
                shown = frame.head(_MOST_ROWS)
                html = shown.to_html(max_rows=_MOST_ROWS, notebook=True)
                display({"text/plain": repr(shown), "text/html": html}, raw=True)
            else:
                display(frame, **options)

    def display_html(self, html: str) -> None:
        """Show HTML."""
        from IPython.display import HTML, display

        display(HTML(html))

    def _fill(self) -> None:
        names = {"dbutils": self._utils, "display": self.display, "displayHTML": self.display_html}
        self._shell.push(names, interactive=False)
        for name in ("pip", "fs"):
            self._shell.register_magic_function(self._magics[name], "line", name)

    def _open_spark(self) -> Any:
        """A session, made when a cell first speaks of it; none where the packages are not there."""
        if "spark" not in self._shell.user_ns:
            try:
                from pyspark.sql import SparkSession
            except ImportError:
                return None
            self._shell.push({"spark": SparkSession.builder.getOrCreate()}, interactive=False)
        return self._shell.user_ns["spark"]

    # -- the end ----------------------------------------------------------------------------------------------------

    def _told(self) -> dict[str, Any]:
        """The notebook as far as it has come."""
        told = to_jupyter(self._notebook)
        done = self._recorder.cells
        return {**told, "cells": [*done, *told["cells"][len(done) :]]}

    def _failure(self, error: BaseException) -> dict[str, Any]:
        if isinstance(error, SystemExit) and error.code in (None, 0):
            return {"ok": True}
        outputs = self._recorder.cells[-1]["outputs"]
        traces = [output["traceback"] for output in outputs if output["output_type"] == "error"]
        message = f"{type(error).__name__}: {error}"
        return {
            "ok": False,
            "message": message,
            "error": "\n".join(traces[-1])[-_LONGEST_TRACE:] if traces else message,
        }


def _refuse(message: str) -> None:
    raise NotImplementedError(message)


def _statements(text: str) -> list[str]:
    """The statements of a cell; they end with a semicolon at the end of a line."""
    return [each.strip() for each in re.split(r";\s*(?:\n|$)", text) if each.strip()]


def as_text(notebook: Mapping[str, Any]) -> str:
    """A notebook as a file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False)
