"""Files of tasks that run on this machine: what their processes find, print and leave."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from millpond.billing.domain import Used
from millpond.jobs.domain import Result
from millpond.jobs.project_run import ARTIFACTS
from millpond.jobs.written import read_bounded, write_at_once
from millpond.kernel.clock import from_epoch_ms, utc_now
from millpond.kernel.storable import storable

KEPT = ("notebook.ipynb", "output.json", ARTIFACTS)
"""What a task's process leaves for whoever asks later."""
LARGEST_KEPT = 32 << 20
_ASIDE = ".aside-"
_LARGEST_RESULT = 8 << 20
_LONGEST_MESSAGE, _LONGEST_ERROR = 2000, 20_000


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a task's process ended."""

    result: Result
    message: str = ""
    error: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    used: Used = field(default_factory=dict)
    """What it used, that is not written yet."""


class TaskFiles:
    """The one place that knows where they are."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "jobs"
        self._logs = data_dir / "logs" / "jobs"

    def directory(self, task_id: int) -> Path:
        """Where a task's process works."""
        return self.root / str(task_id)

    def fresh(self, task_id: int) -> Path:
        """The same, empty."""
        directory = self.directory(task_id)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        return directory

    @contextmanager
    def aside(self, task_id: int) -> Iterator[Path]:
        """An empty directory while the block runs, for files of a task that runs elsewhere."""
        with tempfile.TemporaryDirectory(dir=self.root, prefix=f"{task_id}{_ASIDE}") as place:
            yield Path(place)

    def clear_asides(self) -> None:
        """Remove those that were left by a server that was killed."""
        for place in self.root.glob(f"*{_ASIDE}*"):
            shutil.rmtree(place, ignore_errors=True)

    def began(self, task_id: int) -> bool:
        """Whether the code's first line may have run."""
        try:
            return (self.directory(task_id) / "began").exists()
        except OSError:  # its directory is its own to close: who does that has begun
            return True

    def began_at(self, task_id: int, started_at: datetime | None) -> datetime | None:
        """When its first line ran, if it did; the file is the script's to touch, so no other time than the task's."""
        try:
            told = (self.directory(task_id) / "began").stat().st_mtime
        except OSError:
            return None
        now = utc_now().timestamp()
        first = started_at.timestamp() if started_at else now
        return from_epoch_ms(int(min(max(told, first), now) * 1000))

    def told(self, task_id: int) -> Ended | None:
        """How the code ended, where it came to its end."""
        found = as_object(read_bounded(self.directory(task_id) / "result.json", _LARGEST_RESULT))
        return None if found is None else ended_of(found)

    def left(self, task_id: int) -> Iterator[tuple[str, bytes]]:
        """What a task's process has left by now, by its names."""
        for name in KEPT:
            found = read_bounded(self.directory(task_id) / name, LARGEST_KEPT)
            if found is not None:
                yield name, found

    def keep(self, task_id: int) -> None:
        """Put aside what the task left for later, before anybody is told that it ended; harmless when done again."""
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, found in self.left(task_id):
            write_at_once(self._kept(task_id, name), found)

    def kept(self, task_id: int, name: str) -> bytes | None:
        """What a task left under a name, while it runs too."""
        place = self._kept(task_id, name)
        return read_bounded(place if place.is_file() else self.directory(task_id) / name, LARGEST_KEPT)

    def _kept(self, task_id: int, name: str) -> Path:
        return self._logs / f"{task_id}.{name}"

    def forget(self, task_id: int) -> None:
        """Remove a task's files; its log and what it left stay."""
        shutil.rmtree(self.directory(task_id), ignore_errors=True)

    def directories(self) -> list[int]:
        """The ids of tasks that have files here."""
        return [int(place.name) for place in self.root.iterdir() if place.name.isdecimal()]

    def forget_log(self, task_id: int) -> None:
        """Remove the log of a task that is removed too, and what it left."""
        for place in (self.log_path(task_id), *(self._kept(task_id, name) for name in KEPT)):
            place.unlink(missing_ok=True)

    def log_path(self, task_id: int) -> Path:
        """Where a task's output is written."""
        return self._logs / f"{task_id}.log"


def ended_of(told: Mapping[str, Any]) -> Ended:
    """How a task ended as its process says it, whatever else that may have written."""
    values = told.get("values")
    values = values if isinstance(values, dict) else {}
    if told.get("ok") is True:
        return Ended(result=Result.SUCCESS, values=values)
    message, error = str(told.get("message", ""))[:_LONGEST_MESSAGE], str(told.get("error", ""))[:_LONGEST_ERROR]
    return Ended(result=Result.FAILED, message=message, error=error, values=values)


def as_object(data: bytes | None) -> dict[str, Any] | None:
    """The JSON object that a task's process wrote; None for what is none."""
    try:
        told = storable(json.loads(data or b""))
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None
