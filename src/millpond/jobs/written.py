"""Files that processes of tasks leave for the server. Standard library only: it runs in tasks too."""

import os
import stat
from pathlib import Path


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
