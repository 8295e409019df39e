"""What metering costs: on the way of a prediction beside what is counted there anyway, and a round of the meter.

Run: `python bench/check_metering.py`.
"""

import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path
from typing import Any

from millpond.billing.domain import Product, Subject
from millpond.billing.metering import Counts, Meter, Tracked
from millpond.billing.quotas import QuotaService
from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.database import Database
from millpond.kernel.migrations import ensure_schema
from millpond.serving import metrics

_CALLS, _REPEATS, _PROCESSES, _ROUNDS = 50_000, 9, 10, 9
_SLEEPER = "x = bytearray(150 << 20); print('ready', flush=True); input()"


def main() -> None:
    """Print both."""
    ann = Principal(id="1", name="ann@example.com", kind=PrincipalKind.USER, is_admin=False)
    with tempfile.TemporaryDirectory() as place:
        database = Database(f"sqlite:///{Path(place) / 'm.db'}")
        ensure_schema(database)
        quotas, counts = QuotaService(database, lambda _: (), lambda name: name), Counts[Any]()
        quotas.look()

        def metered() -> None:
            quotas.check_lately(ann)
            counts.add(("0123", "churn", ann.name))

        ours = _us(metered)
        there = _us(lambda: metrics.counted("churn", "v1", "1", "200", 0.01))
        print(f"a prediction: {ours:.2f} µs for quota and count, {there:.2f} µs for its outcome and time")
        print(f"a round over {_PROCESSES} processes of 150 MiB: {_round_ms(database):.0f} ms of processor time")


def _us(work: Any) -> float:
    return min(timeit.repeat(work, number=_CALLS, repeat=_REPEATS)) / _CALLS * 1e6


def _round_ms(database: Database) -> float:
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    children = [subprocess.Popen([sys.executable, "-c", _SLEEPER], **piped) for _ in range(_PROCESSES)]
    try:
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        meter = Meter(database)
        subject = Subject(product=Product.SQL, run_as="ann")
        tracked = [Tracked(key=child.pid, subject=subject, pids=(child.pid,)) for child in children]
        meter.watch(lambda: tracked)
        meter.round()
        took = []
        for _ in range(_ROUNDS):
            before = time.process_time()
            meter.round()
            took.append(time.process_time() - before)
        return sorted(took)[_ROUNDS // 2] * 1000
    finally:
        for child in children:
            child.kill()
            child.wait()


if __name__ == "__main__":
    main()
