"""Work on an event loop that may take long."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def aside_unless(at_once: bool, work: Callable[[], T]) -> T:
    """What some work returns, which goes on in a thread where it would keep others waiting."""
    return work() if at_once else await asyncio.to_thread(work)
