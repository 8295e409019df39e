"""Work that blocks: on threads, and seen to its end, as nobody could tell what an abandoned one has still done."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class BlocksLoop(Exception):
    """Work was begun on the event loop that belongs on a thread, where it shall be begun anew."""


def require_thread() -> None:
    """Raise BlocksLoop on an event loop: what follows would keep everybody else waiting."""
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise BlocksLoop


async def seen_through(work: "asyncio.Task[T]") -> T:
    """The result of a task. Who waits for it may be cancelled, yet goes on only when the task is over."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # seen: nobody waits for it any more
        raise


async def on_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of work that blocks."""
    return await seen_through(asyncio.create_task(asyncio.to_thread(work, *args, **kwargs)))
