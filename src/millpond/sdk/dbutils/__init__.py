"""`dbutils` in a task of a job, under the names that Databricks' notebooks know. Standard library only.

Tasks find it as `dbutils`, without an import. What it does, it does through the server's API, with the
task's own token.
"""

from collections.abc import Callable, Mapping
from typing import Any

from millpond.sdk.dbutils.api import Api
from millpond.sdk.dbutils.fs import FileSystem
from millpond.sdk.dbutils.notebook import Notebooks, PythonRestart
from millpond.sdk.dbutils.secrets import Secrets
from millpond.sdk.dbutils.values import TaskValues
from millpond.sdk.dbutils.widgets import Widgets


class Jobs:
    """`dbutils.jobs`."""

    def __init__(self, values: TaskValues) -> None:
        self.taskValues = values


class Library:
    """`dbutils.library`."""

    def restartPython(self) -> None:
        """End the cell, and go on without the names that the notebook made. Packages are installed before it begins."""
        raise PythonRestart


class DbUtils:
    """What a task finds as `dbutils`."""

    def __init__(
        self,
        api: Api,
        *,
        before: Mapping[str, Mapping[str, Any]] | None = None,
        parameters: Mapping[str, str] | None = None,
        seen: Callable[[str], None] = lambda value: None,
        notebooks: Notebooks | None = None,
    ) -> None:
        """`seen` is told each secret that is got."""
        self.jobs = Jobs(TaskValues(before or {}))
        self.widgets = Widgets(parameters or {})
        self.fs = FileSystem(api)
        self.secrets = Secrets(api, seen)
        self.notebook = notebooks or Notebooks(None)
        self.library = Library()
