"""A notebook that a notebook runs: an interpreter of its own, within the task's confinement. It runs in tasks."""

import json
import os
import posixpath
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millpond.jobs.fetching import as_order, fetch
from millpond.jobs.written import write_at_once
from millpond.kernel.process_tree import kill_below
from millpond.sdk.dbutils.api import Api
from millpond.sdk.dbutils.notebook import NotebookRunFailed

_DEEPEST = 8
_BEGIN = """
import json, pathlib, sys, types
millpond = types.ModuleType("millpond")
millpond.__path__ = [sys.argv[1]]
sys.modules["millpond"] = millpond
from millpond.jobs.task_process import carry_out
place = pathlib.Path(sys.argv[2])
carry_out(place, json.loads((place / "order.json").read_text()))
"""


class Nested:
    """What `dbutils.notebook.run` does. Several may run at once."""

    def __init__(self, directory: Path, order: Mapping[str, Any], api: Api) -> None:
        self._directory = directory
        self._order = order
        self._api = api
        self._unpacked = [str(directory / "wheels" / str(number)) for number in range(len(order["wheels"]))]

    def run(self, path: str, timeout_s: int, arguments: Mapping[str, str]) -> str:
        """Run a notebook to its end; its value. Raises NotebookRunFailed, TimeoutError, FileNotFoundError."""
        if self._order["depth"] >= _DEEPEST:
            raise RecursionError(f"Notebooks run notebooks at most {_DEEPEST} deep.")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(self._order["path"]), path))
        order = {
            **self._order, "notebook": as_order(fetch(self._api, path)), "path": path, "parameters": dict(arguments),
            "installed": [], "wheels": [], "paths": [*self._unpacked, *self._order["paths"]],
            "depth": self._order["depth"] + 1,
        }  # fmt: skip
        place = Path(tempfile.mkdtemp(dir=self._directory))
        write_at_once(place / "order.json", json.dumps(order))
        self._wait(place, path, timeout_s)
        return self._value(place, path)

    def _wait(self, place: Path, path: str, timeout_s: int) -> None:
        package = str(Path(__file__).parents[1])
        child = subprocess.Popen([sys.executable, "-P", "-c", _BEGIN, package, str(place)], env=dict(os.environ))
        try:
            child.wait(timeout_s or None)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"Notebook {path} took longer than {timeout_s} s.") from error
        finally:
            kill_below(child.pid)
            child.kill()
            child.wait()

    def _value(self, place: Path, path: str) -> str:
        try:
            told = json.loads((place / "result.json").read_text())
        except OSError as error:
            raise NotebookRunFailed(f"The process of notebook {path} was ended.") from error
        if not told["ok"]:
            raise NotebookRunFailed(f"Notebook {path} failed: {told['message']}")
        output = place / "output.json"
        return str(json.loads(output.read_text())["result"]) if output.exists() else ""
