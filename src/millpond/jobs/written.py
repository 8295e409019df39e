"""Files that processes of tasks leave for the server. Standard library only: it runs in tasks too."""

import math
import os
import stat
from pathlib import Path
from typing import Any


def write_at_once(path: Path, content: str | bytes) -> None:
    """A file that is there whole or not at all, whatever is killed."""
    aside = path.with_suffix(".new")
    with aside.open("wb") as stream:
        stream.write(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        stream.flush()
        os.fsync(stream.fileno())
    aside.rename(path)


def read_bounded(path: Path, most_bytes: int) -> bytes | None:
    """A file that a task's process wrote, whatever else it may have put there; None for what is none, or larger."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > most_bytes:
            return None
        return stream.read(most_bytes)


def storable(value: Any) -> Any:
    """A JSON value as databases and answers take it: without NUL, and without halves of characters; NaN and infinities
    as texts. Raises RecursionError for what is nested some hundred times."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, list) else value
