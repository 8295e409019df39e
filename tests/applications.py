"""An application of a test's own, on a real port."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tests.servers import wait_until


@contextmanager
def served(app: Any, listener: socket.socket | None = None, *, lifespan: str = "off", **config: Any) -> Iterator[str]:
    """The address of an application that a thread serves, on a listener or on any free port."""
    config = {
        "log_config": None,
        "access_log": False,
        "lifespan": lifespan,
        "ws": "websockets-sansio",
        "timeout_graceful_shutdown": 5,
    } | config
    server = uvicorn.Server(uvicorn.Config(app, **config))
    with listener or listening() as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started, what="the server being up")
        try:
            yield address_of(bound)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def listening() -> socket.socket:
    """A listener on a free port, for an application that has to know its address."""
    return socket.create_server(("127.0.0.1", 0), backlog=256)


def address_of(listener: socket.socket) -> str:
    """The URL of what answers at a listener."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
