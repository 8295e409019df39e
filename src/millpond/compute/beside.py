"""What is done in threads beside a round."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from millpond.kernel.logs import get_logger

log = get_logger(__name__)


class Beside:
    """For each thing one act at a time; what is asked for meanwhile is left to the next round."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    def do(self, pool: ThreadPoolExecutor, key: str, act: Callable[..., object], *given: Any) -> None:
        """Do something for a thing, unless something is done for it already."""
        with self._lock:
            if key in self._busy or self._stopped.is_set():
                return
            self._busy.add(key)

        def done() -> None:
            try:
                act(*given)
            except Exception as error:  # the boundary of a work item
                log.error("a cluster was not carried on", cluster=key, exc_info=error)
            finally:
                with self._lock:
                    self._busy.discard(key)

        pool.submit(done)
