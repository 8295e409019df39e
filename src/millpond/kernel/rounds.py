"""Work that is done again and again beside a server's own, in a thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from structlog.stdlib import BoundLogger

_END_S = 10.0


@contextmanager
def rounds(
    work: Callable[[], object], *, name: str, interval_s: float, log: BoundLogger, failure: str, last: bool = False
) -> Iterator[None]:
    """Rounds of some work while the block runs, each after a pause; `last` does one more after the block.

    A round that fails is written to the log, and the next tries again.
    """
    stopped = threading.Event()

    def run() -> None:
        going = True
        while going:
            going = not stopped.wait(interval_s)
            if not (going or last):
                return
            try:
                work()
            except Exception as error:  # the boundary of a work item
                log.error(failure, exc_info=error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(_END_S)
