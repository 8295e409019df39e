"""`confined SCRIPT ORDER VARIABLES [SOCKET PORT]... [--own-network]`: runs a program to its end, in a child of ours.

It runs in the interpreter that was built for the program, confined already. In a network of its own the pairs lead to
the server's sockets, under the ports that it has outside; there is no other way out.
"""

import json
import os
import subprocess
import sys

from millpond.engine import forwarder
from millpond.kernel.child import report_ready


def main() -> None:
    """Run it; tell its exit code."""
    script, order, variables, *ways_out = [word for word in sys.argv[1:] if word != "--own-network"]
    if ways_out and "--own-network" in sys.argv:
        forwarder.open_ways_out(ways_out)
    with open(variables) as stream:
        environment = {**os.environ, **json.load(stream)}
    done = subprocess.run([sys.executable, script, order], env=environment, stdin=subprocess.DEVNULL, check=False)
    report_ready({"code": done.returncode})


if __name__ == "__main__":
    main()
