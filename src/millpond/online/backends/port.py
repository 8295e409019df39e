"""What an online store has to do; tests hold each kind to it."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from millpond.online.domain import Published

Change = tuple[bytes, bytes | None]
"""A key and its encoded row; None takes the row away."""


class Backend(Protocol):
    """Keeps rows by table, generation and key. A table is known by its id, so that it may be renamed.

    Each call is atomic for its readers, and `published` is durable where the store is: rows that were written before a
    `publish` are there after a crash whenever its mark is. Everything may be repeated.
    """

    def published(self, table: str) -> Published | None:
        """What was published last; None when nothing was, or when the store has lost it."""

    def write(self, table: str, generation: int, changes: Iterable[Change]) -> int:
        """Set and take away rows of a generation; returns how many."""

    def publish(self, table: str, state: Published) -> None:
        """Let readers see a generation, and note its version."""

    def drop(self, table: str, generation: int | None = None) -> None:
        """Forget a generation's rows, or all of a table with its mark."""

    def read(self, table: str, keys: Sequence[bytes]) -> tuple[Published | None, list[bytes | None]]:
        """The rows of some keys in the published generation, in the keys' order, all of one moment."""

    def close(self) -> None:
        """Let go of files, and of connections that are no event loop's."""


class ServingBackend(Backend, Protocol):
    """What readers on an event loop need besides."""

    async def read_async(self, table: str, keys: Sequence[bytes]) -> tuple[Published | None, list[bytes | None]]:
        """As `read`; the event loop does not wait meanwhile."""

    async def aclose(self) -> None:
        """Let go of the connections of the event loop in which this runs."""
