"""What MLflow's queries expect of SQLite: RLIKE, percentiles, and LIKE that minds case."""

import re
from typing import Any

from sqlalchemy import Engine, event


def install(engine: Engine) -> None:
    """Give each new connection of the engine the functions."""

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.create_function("regexp", 2, _regexp, deterministic=True)
        connection.create_aggregate("percentile", 2, _Percentile)
        connection.execute("PRAGMA case_sensitive_like = true")


def _regexp(pattern: str | None, value: str | None) -> bool:
    if pattern is None or value is None:
        return False
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return False


class _Percentile:
    """PERCENTILE_CONT with linear interpolation, as PostgreSQL has it."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._percent: float | None = None

    def step(self, value: float | None, percent: float | None) -> None:
        """Take one row."""
        if value is not None:
            self._values.append(float(value))
        if self._percent is None and percent is not None:
            self._percent = float(percent)

    def finalize(self) -> float | None:
        """The percentile of the rows."""
        if not self._values or self._percent is None:
            return None
        ordered = sorted(self._values)
        position = (len(ordered) - 1) * self._percent / 100
        lower = int(position)
        upper = min(lower + 1, len(ordered) - 1)
        return ordered[lower] + (position - lower) * (ordered[upper] - ordered[lower])
