"""`confined SCRIPT ORDER VARIABLES [SOCKET PORT]... [--own-network]`: runs a program to its end, in a child of ours.

It runs in the interpreter that was built for the program, confined already. In a network of its own the pairs lead to
the server's sockets, under the ports that it has outside; there is no other way out.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

from millpond.engine import forwarder
from millpond.kernel.child import report_ready

_DOORS_S = 10.0


def main() -> None:
    """Run it; tell its exit code."""
    script, order, variables, *ways_out = [word for word in sys.argv[1:] if word != "--own-network"]
    if ways_out and "--own-network" in sys.argv:
        _open_doors(ways_out)
    with open(variables) as stream:
        environment = {**os.environ, **json.load(stream)}
    done = subprocess.run([sys.executable, script, order], env=environment, stdin=subprocess.DEVNULL, check=False)
    report_ready({"code": done.returncode})


def _open_doors(ways_out: list[str]) -> None:
    assert forwarder.__file__ is not None
    command = [sys.executable, "-I", "-S", forwarder.__file__, forwarder.NO_WAY_IN, str(os.getpid()), *ways_out]
    subprocess.Popen(command, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + _DOORS_S
    for port in map(int, ways_out[1::2]):
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break


if __name__ == "__main__":
    main()
