"""What an inference table costs each request, in CPU of the server's process: to keep it, and to commit it later.

    check_payload_log.py [REQUESTS]      by default 20000

In one process, without HTTP and without a model: what is measured comes on top of both. The goal is below 100 us to
keep it.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.inference_tables.conftest import Captured, answered, opened, wanted

from bench.report import heading, line
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.ids import new_id
from millpond.kernel.migrations import ensure_schema
from millpond.serving.capture import Asked, AutoCapture, Captures, NoCaptures

SIZES = (100, 1_000, 10_000, 1_000_000)


async def keep(captures: Captures, kept: AutoCapture, who: Principal, body: bytes, count: int) -> None:
    """What `ServingService.query` does for each request besides asking the model."""
    for _ in range(count):
        captures.check_room(kept)
        asked = Asked(
            id=new_id(),
            client_id=None,
            requester=who.name,
            content_type="application/json",
            body=body,
            time_ms=time.time_ns() // 1_000_000,
            is_direct=False,
        )
        await captures.record(kept, asked, answered())


def cpu_us(captured: Captured, captures: Captures, kept: AutoCapture, body: bytes, count: int) -> float:
    """Of one request; user and system."""
    began = time.process_time()
    asyncio.run(keep(captures, kept, captured.admin, body, count))
    return (time.process_time() - began) / count * 1e6


def measure(captured: Captured, requests: int) -> None:
    """Each size of request."""
    log = captured.log()
    captures = captured.captures(log, limit_bytes=1 << 40)
    committer = captured.committer(log)
    kept = captures.prepare(captured.admin, "bench", wanted("bench"))
    for durable in (False, True):
        told = ", on the disk before the answer" if durable else ""
        if durable:
            captures = captured.captures(captured.log(durable=True), limit_bytes=1 << 40, durable=True)
        for size in SIZES:
            count = max(20, min(requests, 200_000_000 // size) // (20 if durable else 1))
            row = b'{"dataframe_records": [{"text": "%s"}]}' % (b"x" * (size - 40))
            off = cpu_us(captured, NoCaptures(), kept, row, count)
            on = cpu_us(captured, captures, kept, row, count)
            line(f"a request of {size} bytes{told}: keep it", on - off, "us", goal="below 100 for 1000 bytes")
            if not durable:
                began, wall = time.process_time(), time.perf_counter()
                committer.run_once()
                line("  commit it", (time.process_time() - began) / count * 1e6, "us")
                line(f"  {count} of them are in the table after", time.perf_counter() - wall, "s")


def main() -> None:
    """In a database of its own."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    heading("Inference tables: CPU of the server for each request")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as directory:
        database = Database(f"sqlite:///{directory}/millpond.db")
        ensure_schema(database)
        measure(opened(database, Path(directory)), requests)


if __name__ == "__main__":
    main()
