"""`task_process DIRECTORY [SOCKET PORT]... [--own-network]`: runs a task's script to its end, in a child of ours.

It may run in an interpreter that has none of our packages, so the standard library is all it has. `began` is written
before the script's first line and `result.json` after its last, each at once, so that whoever looks after a crash knows
whether the code ran, and how it ended.
"""

import builtins
import ctypes
import json
import os
import platform
import resource
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

from millpond.engine import forwarder
from millpond.jobs.process_tree import kill_below
from millpond.kernel.redaction import RedactedOutput, Redactor
from millpond.sdk.dbutils import DbUtils

_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_TRACE = 8000


def main() -> None:
    """Run it; how it ended is in `result.json`."""
    directory, *ways_out = [word for word in sys.argv[1:] if word != "--own-network"]
    order = json.loads(Path(directory, "order.json").read_text())
    if platform.system() == "Linux":  # what a script leaves behind stays below this process, and ends with it
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if "--own-network" in sys.argv:
        forwarder.open_ways_out(ways_out)
    resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], order["file_bytes"]))
    output = RedactedOutput(Redactor([order["token"]]))
    os.environ.update(order["variables"])
    write_at_once(Path(directory, "began"), "")
    utils = DbUtils(order["values"])
    builtins.dbutils = utils  # type: ignore[attr-defined]
    told = _run(order["script"], order["argv"])
    sys.stdout.flush()
    sys.stderr.flush()
    output.close()
    kill_below(os.getpid())
    told["values"] = utils.jobs.taskValues.own
    write_at_once(Path(directory, "result.json"), json.dumps(told))
    os._exit(0)  # threads of the script do not keep the task


def _run(script: str, argv: list[str]) -> dict[str, Any]:
    sys.argv = [script, *argv]
    sys.path[0] = os.path.dirname(script)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        if error.code in (None, 0):
            return {"ok": True}
        if isinstance(error.code, int):
            return {"ok": False, "message": f"The script ended with code {error.code}.", "error": ""}
        print(error.code, file=sys.stderr)
        return {"ok": False, "message": str(error.code)[:_LONGEST_TRACE], "error": ""}
    except BaseException as error:
        traceback.print_exc()
        trace = traceback.format_exc()[-_LONGEST_TRACE:]
        return {"ok": False, "message": f"{type(error).__name__}: {error}"[:_LONGEST_TRACE], "error": trace}
    return {"ok": True}


def write_at_once(path: Path, text: str) -> None:
    """A file that is there whole or not at all, whatever is killed."""
    aside = path.with_suffix(".new")
    with aside.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.rename(path)


if __name__ == "__main__":
    main()
