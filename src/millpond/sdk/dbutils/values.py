"""`dbutils.jobs.taskValues`: values that tasks hand on to those after them."""

import json
from collections.abc import Mapping
from typing import Any

_LARGEST_BYTES = 48 << 10
"""Of one value as JSON. Source: Databricks' limit."""


class TaskValues:
    """What tasks before this one set, and what this one sets."""

    def __init__(self, before: Mapping[str, Mapping[str, Any]]) -> None:
        self._before = before
        self.own: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        """Hand on a value, of what JSON can say. Raises TypeError for another one, ValueError for one too large."""
        if len(json.dumps(value)) > _LARGEST_BYTES:
            raise ValueError(f"The task value '{key}' has more than {_LARGEST_BYTES} bytes.")
        self.own[str(key)] = value

    def get(self, taskKey: str, key: str, default: Any = None, debugValue: Any = None) -> Any:
        """A value that a task before this one set. Raises ValueError where there is none, and no default."""
        try:
            return self._before[taskKey][key]
        except KeyError:
            if default is None:
                raise ValueError(f"Task '{taskKey}' has set no value '{key}', and there is no default.") from None
            return default
