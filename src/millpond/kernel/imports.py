"""Import packages without what they only use when it is there: in less time and memory.

Many packages import others behind `except ImportError` (`socketio` takes aiohttp and redis, `structlog` rich). Where we
need none of that, those names look absent **to the importing thread** for a moment; afterwards everything imports them
as usual.
"""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Absent:
    """A finder that hides modules from one thread."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._thread = threading.get_ident()

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse a hidden name to the importing thread; know nothing of any other."""
        if name in self._names and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"'{name}' is not needed in this process", name=name)
        return None


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Let these packages look absent to imports of this thread inside the block."""
    finder = _Absent(frozenset(names))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
