"""The server process: HTTP API, UI, embedded MLflow and the processes that serve models, on one event loop.

`python -m millpond.server_process FD` is started by the supervisor, which holds the listening socket FD, so that a
restart refuses no connection.
"""

import asyncio
import gc
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvicorn

from millpond.home import Home, socket_address
from millpond.kernel.child import report_ready
from millpond.kernel.errors import Unavailable
from millpond.kernel.imports import hidden
from millpond.kernel.logs import configure_logs, get_logger
from millpond.kernel.settings import load_settings

_DRAIN_S = 20
_LONGEST_TURN_S = 0.001
"""For how long a thread keeps the interpreter while the event loop waits for it; Python's own 5 ms would be the p99 of
a call that takes 1."""
_ACCEPTED_AT_ONCE = 16
"""Connections that are accepted in a turn of the event loop, of which libuv accepts one for each listener
(https://github.com/libuv/libuv/pull/3696): a thousand that come at once to a busy server would wait for seconds."""
log = get_logger(__name__)


class _Server(uvicorn.Server):
    """Answers on the Unix socket too, always without TLS, and tells the supervisor when every part of it answers."""

    def __init__(
        self, config: uvicorn.Config, wait_ready: Callable[[], Awaitable[object]], unix_listener: socket.socket
    ) -> None:
        super().__init__(config)
        self._wait_ready = wait_ready
        self._unix_listener = unix_listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            loop = asyncio.get_running_loop()
            self.servers.append(await loop.create_server(self._protocol, sock=self._unix_listener))
            self._reporting = asyncio.create_task(self._report())

    def _protocol(self) -> asyncio.Protocol:
        protocol_class: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def _report(self) -> None:
        try:
            await self._wait_ready()
        except Unavailable as error:
            log.error("the server cannot become ready", reason=error.message)
            self.should_exit = True
        else:
            report_ready({})


def main() -> None:
    """Build the application and serve it until SIGTERM; then finish what runs."""
    gc.disable()  # imports make garbage collection run for nothing: half a second of the start
    sys.setswitchinterval(_LONGEST_TURN_S)
    settings = load_settings()
    configure_logs(settings.log_level, process="server")
    with hidden("aiohttp", "redis", "requests"):  # for other servers and clients than ours
        from millpond.app import build_app
        from millpond.express import ExpressProtocol  # after the logs are set up, and with collection off

    application = build_app(settings)
    gc.enable()
    gc.freeze()
    config = uvicorn.Config(
        application.asgi,
        http=partial(ExpressProtocol, express=application.express),  # type: ignore[arg-type]  # whatever makes one
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_S,
        timeout_keep_alive=75,
        ws="websockets-sansio",
        server_header=False,
        proxy_headers=settings.public_url is not None,  # else any local process could claim any address
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
    )
    with socket.socket(fileno=int(sys.argv[1])) as listener, _unix_listener(Home(settings.data_dir)) as unix_listener:
        listeners = [listener, *(listener.dup() for _ in range(_ACCEPTED_AT_ONCE - 1))]
        _Server(config, application.wait_ready, unix_listener).run(sockets=listeners)
    application.express.tell()


def _unix_listener(home: Home) -> socket.socket:
    """A socket in the data directory, for engines, which have no network of ours; the same door with the same locks."""
    home.api_socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with socket_address(home.api_socket) as address:
        listener.bind(address)
    listener.listen(256)
    return listener


if __name__ == "__main__":
    main()
