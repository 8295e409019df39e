"""`dbutils.notebook`: end with a value, and run another notebook for its value."""

from collections.abc import Callable, Mapping
from typing import Any


class NotebookExit(BaseException):
    """The notebook ends here, with a value; not an `Exception`, which a notebook may catch by the way."""

    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


class PythonRestart(BaseException):
    """The names of the notebook are to be forgotten, after this cell."""


class NotebookRunFailed(Exception):
    """Another notebook that was run did not come to its end."""


Run = Callable[[str, int, Mapping[str, str]], str]


class Notebooks:
    """What a notebook can do with notebooks; a script has none."""

    def __init__(self, run: Run | None) -> None:
        self._run = run

    def exit(self, value: Any = "") -> None:
        """End the notebook, successfully."""
        if self._run is None:
            raise RuntimeError("dbutils.notebook is for notebooks; a script ends with sys.exit().")
        raise NotebookExit(str(value))

    def run(self, path: str, timeout_seconds: int = 0, arguments: Mapping[str, Any] | None = None) -> str:
        """Run a notebook in an interpreter of its own, as this one is run, and return what it ends with.

        `path` is relative to this notebook; 0 is no limit. Raises NotebookRunFailed, FileNotFoundError, TimeoutError.
        """
        if self._run is None:
            raise RuntimeError("dbutils.notebook is for notebooks.")
        return self._run(path, timeout_seconds, {name: str(value) for name, value in (arguments or {}).items()})
