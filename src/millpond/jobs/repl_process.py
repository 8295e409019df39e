"""`repl_process DIRECTORY LINE [SOCKET PORT]... [--own-network]`: a context of a cluster, in a child of ours.

`order.json` in the directory says who it works for. Commands come as lines of JSON over the socket with the number
LINE, and their results go back the same way. SIGINT interrupts what runs, and nothing else. It may run in an
interpreter that has none of our packages.
"""

import ctypes
import json
import os
import platform
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millpond.engine import forwarder
from millpond.jobs.nested import Nested
from millpond.jobs.repl import Repl
from millpond.jobs.task_process import unpacked
from millpond.kernel.child import report_ready
from millpond.kernel.process_tree import kill_below
from millpond.kernel.redaction import RedactedOutput, Redactor
from millpond.sdk.dbutils import DbUtils
from millpond.sdk.dbutils.api import Api
from millpond.sdk.dbutils.notebook import Notebooks

_PR_SET_CHILD_SUBREAPER = 36
_LARGEST_ANSWER = 8 << 20


def main() -> None:
    """Answer until nobody asks any more."""
    directory, line, *ways_out = [word for word in sys.argv[1:] if word != "--own-network"]
    order = json.loads(Path(directory, "order.json").read_text())
    os.unlink(Path(directory, "order.json"))
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if "--own-network" in sys.argv:
        forwarder.open_ways_out(ways_out)
    resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], order["file_bytes"]))
    os.environ.update(order["variables"])
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    redactor = Redactor([order["token"], *order["secrets"]])
    RedactedOutput(redactor)
    interrupts = _Interrupts()
    repl = _opened(Path(directory), order, redactor)
    report_ready({})
    with socket.socket(fileno=int(line)) as connection, connection.makefile("rw", encoding="utf-8") as stream:
        connection.set_inheritable(False)
        for asked in stream:
            stream.write(redactor.clean(_answer(repl, json.loads(asked), interrupts)) + "\n")
            stream.flush()
    kill_below(os.getpid())
    os._exit(0)


class _Interrupts:
    """SIGINT, which counts only while a command runs."""

    def __init__(self) -> None:
        self.running = False
        signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, *_told: object) -> None:
        if self.running:
            raise KeyboardInterrupt


def _opened(directory: Path, order: Mapping[str, Any], redactor: Redactor) -> Repl:
    wheels = unpacked(directory, order["wheels"])
    sys.path[0] = str(directory)
    sys.path[1:1] = [*wheels, *order["paths"]]
    api = Api(order["variables"]["DATABRICKS_HOST"], order["token"])
    nested = Nested(directory, {**order, "path": "/", "depth": 0, "values": {}, "modules": str(directory)}, api)
    utils = DbUtils(api, seen=redactor.add, notebooks=Notebooks(nested.run))
    return Repl(utils=utils, api=api)


def _answer(repl: Repl, asked: Mapping[str, Any], interrupts: _Interrupts) -> str:
    try:
        interrupts.running = True
        told = repl.answer(asked["text"], asked["language"])
        interrupts.running = False
    except KeyboardInterrupt:  # just as it ended
        told = {"state": "Cancelled", "results": {}}
    finally:
        interrupts.running = False
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    answer = json.dumps({"id": asked["id"], **told}, default=str)
    if len(answer) > _LARGEST_ANSWER:
        text = f"The results have more than {_LARGEST_ANSWER >> 20} MiB; show less at once."
        results = {"resultType": "error", "summary": text, "cause": text}
        answer = json.dumps({"id": asked["id"], "state": "Error", "results": results})
    return answer


if __name__ == "__main__":
    main()
