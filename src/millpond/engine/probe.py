"""Whether an engine can be started here, for `millpond doctor`."""

import importlib.metadata
import tempfile
import time
from pathlib import Path

from millpond.kernel.process import ChildSpec, spawn


def probe_engine(*, timeout_s: float) -> str:
    """Start an engine as the gateway does, end it, and say what it was and how long it took. Blocks.

    Raises Unavailable with its last words when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="millpond-doctor-") as name:
        directory = Path(name)
        for part in ("socket", "uploads", "tmp"):
            (directory / part).mkdir(mode=0o700)
        began = time.perf_counter()
        child = spawn(
            ChildSpec(
                module="millpond.engine.sail_process",
                args=(str(directory / "socket" / "s"), str(directory / "uploads")),
                env={"HOME": str(directory / "tmp"), "TMPDIR": str(directory / "tmp")},
                log_path=directory / "engine.log",
                sandbox=True,
                writable=(directory,),
                cwd=directory / "tmp",
                own_network=True,
                unix_sockets=True,  # until its forwarder has its own
            )
        )
        try:
            ready = child.wait_ready(timeout_s)
        finally:
            child.kill()
    network = "in a network of its own" if ready["own_network"] else "on the shared loopback device"
    seconds = time.perf_counter() - began
    return f"Sail {importlib.metadata.version('pysail')}, started in {seconds:.1f} s, {network}"
