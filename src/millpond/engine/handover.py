"""Writes that the engine computes and delta-rs commits: rows stream from the one to the other through a short queue."""

import asyncio
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millpond.engine import proto
from millpond.engine.authorship import USER_METADATA_SETTING, Author, metadata_of
from millpond.engine.blocking import seen_through
from millpond.engine.needs import Needs
from millpond.engine.sessions import Session
from millpond.engine.upstream import Upstream, execute_request

if TYPE_CHECKING:
    from millpond.engine.delta.table import Once
    from millpond.engine.write_requests import MergeInto

_WAITING = 4
"""Batches in flight: the engine waits when the writer is slower."""


class _Broken(Exception):
    """The engine failed midway; the writer must not commit what came before."""


@dataclass(frozen=True)
class Target:
    """A Delta table that shall get rows, and how."""

    location: str
    fields: Sequence[dict[str, Any]]
    """Its columns as Delta writes them."""
    overwrite: bool
    options: Mapping[str, str]
    """Those of the write: `mergeSchema`, `replaceWhere`."""
    storage_options: Mapping[str, str]
    always: bool = False
    """Whether delta-rs writes even where the engine could: the engine must not reach the table's files."""
    merge: "MergeInto | None" = None
    """How rows are merged; then delta-rs writes, too: a merge of the engine's says nothing of what was there once."""
    once: "Once | None" = None
    """What the table shall have once; then delta-rs writes, too, as the engine cannot say so in a commit."""


async def handed_over(upstream: Upstream, session: Session, relation: Any, needs: Needs, target: Target) -> bool:
    """If the engine cannot or must not append to the table: run the bound relation, and commit its rows as the user's.

    False when the engine can, and nothing was done.
    """
    if not (target.always or target.once or target.merge) and not await asyncio.to_thread(_is_ours, target):
        return False
    await _write_computed(upstream, session, relation, needs, target)
    return True


def _is_ours(target: Target) -> bool:
    if all(field["name"] == field["name"].lower() and "." not in field["name"] for field in target.fields):
        return False  # without loading delta-rs
    from millpond.engine.delta.append import needs_us

    return needs_us(_storage(target), target.fields)


def _storage(target: Target) -> Any:
    from millpond.engine.delta.table import Storage

    return Storage(url=target.location, options=target.storage_options if target.location.startswith("s3") else {})


async def _write_computed(upstream: Upstream, session: Session, relation: Any, needs: Needs, target: Target) -> None:
    writing = _Writing(session, target)

    async def hand_on(message: bytes) -> None:
        response = proto.base.ExecutePlanResponse.FromString(message)
        if response.HasField("arrow_batch"):
            await writing.put(response.arrow_batch.data)

    plan = proto.base.Plan(root=relation)
    try:
        await upstream.stream(session, "ExecutePlan", execute_request(session, plan), needs, hand_on)
        await writing.put(None)
    except BaseException:
        await writing.give_up()
        raise
    await writing.finish()


class _Writing:
    """The writer on its thread, which it takes only when there are rows.

    To get an engine takes threads too: writers that wait for rows could hold all of them.
    """

    def __init__(self, session: Session, target: Target) -> None:
        self._session = session
        self._target = target
        self._waiting: queue.Queue[bytes | BaseException | None] = queue.Queue(_WAITING)
        self._writer: asyncio.Task[None] | None = None

    async def put(self, item: bytes | BaseException | None) -> None:
        """Hand something on. Raises what the writer failed with."""
        writer = self._writer = self._writer or self._begun()
        while not writer.done():
            try:
                self._waiting.put_nowait(item)
                return
            except queue.Full:
                await asyncio.wait({writer}, timeout=0.005)
        if not isinstance(item, BaseException):
            writer.result()

    async def finish(self) -> None:
        """Wait for the commit, after the last of the rows."""
        assert self._writer is not None
        await seen_through(self._writer)

    async def give_up(self) -> None:
        """The rows are not complete: nothing is committed."""
        if self._writer is None:
            return
        await self.put(_Broken())
        await asyncio.wait({self._writer})
        if not self._writer.cancelled():
            self._writer.exception()  # seen: the engine's own error is the one that is raised

    def _begun(self) -> "asyncio.Task[None]":
        from millpond.engine.delta.append import merge_rows, write_rows

        session, target = self._session, self._target
        how: dict[str, Any] = {
            "user_metadata": metadata_of(target.options, session.setting(USER_METADATA_SETTING)),
            "once": target.once,
        }
        if target.merge is not None:
            how |= {"keys": target.merge.keys, "deletes": target.merge.deletes}
        else:
            how |= {"overwrite": target.overwrite, "options": target.options}
        write: Callable[..., None] = write_rows if target.merge is None else merge_rows
        rows = _batches(self._waiting)
        return asyncio.create_task(
            asyncio.to_thread(write, _storage(target), Author.of(session.principal), rows, **how)
        )


def _batches(waiting: "queue.Queue[bytes | BaseException | None]") -> Iterator[Any]:
    import pyarrow as pa

    while (item := waiting.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield from pa.ipc.open_stream(item)
