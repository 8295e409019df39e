"""The engine's own process: Sail, confined, for one user. Started by `engines.py` through `kernel.process`.

In a network of its own (`--own-network`) Sail's port can be reached by nobody, and a forwarder lets the gateway in
through a Unix socket whose directory is the gateway's alone. Without one it listens on the loopback device, where any
process of this machine could connect: see docs/decisions/0008-engine-isolation.md.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from millpond.engine import forwarder
from millpond.kernel import network
from millpond.kernel.child import report_ready


def main() -> None:
    """`sail_process SOCKET_PATH UPLOADS [SOCKET PORT]... [--own-network]`: serve until killed; the pairs lead out."""
    socket_path, uploads, *ways_out = [argument for argument in sys.argv[1:] if argument != "--own-network"]
    sys.path.insert(0, uploads)  # modules that users uploaded for their functions
    helper = _start_forwarder(Path(socket_path), ways_out) if "--own-network" in sys.argv else None
    network.forbid_unix_sockets()

    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    address = server.listening_address
    if address is None:
        raise RuntimeError("Sail did not start to listen.")
    if helper is not None and helper.stdin is not None:
        helper.stdin.write(f"{address[1]}\n".encode())
        helper.stdin.flush()
        report_ready({"target": f"unix:{socket_path}", "own_network": True})
    else:
        report_ready({"target": f"127.0.0.1:{address[1]}", "own_network": False})
    while True:
        signal.pause()


def _start_forwarder(socket_path: Path, ways_out: list[str]) -> "subprocess.Popen[bytes]":
    listener = socket.socket(socket.AF_UNIX)
    # a path of a Unix socket has at most 107 bytes, that of a data directory may be longer
    directory = os.open(socket_path.parent, os.O_PATH)
    listener.bind(f"/proc/self/fd/{directory}/{socket_path.name}")
    os.close(directory)
    listener.listen(64)
    command = [sys.executable, "-I", "-S", forwarder.__file__, str(listener.fileno()), str(os.getpid()), *ways_out]
    return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(listener.fileno(),))


if __name__ == "__main__":
    main()
