"""Work on threads that is seen to its end, because nobody could tell what an abandoned thread has still done."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
