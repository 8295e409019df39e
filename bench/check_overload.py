"""What becomes of an endpoint of ours that is asked twice as much as it can answer.

    check_overload.py [MODEL...] [--seconds S]      by default slow lightgbm

Three loads on one server: one client, for the latency without load; as many as it takes for the most answers; and
requests that come at twice that rate whatever becomes of them. Goals: of the last one at least 90 % of the most answers
in a second, and the p99 of what is answered below three times that of one client. The clients share the machine: of
two cores a quick model has what they leave.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.bench_serving import HERE, ONE_THREAD, Target, _load, _ours
from bench.peers import millpond
from bench.report import heading, line

_CLIENTS = (4, 8, 16, 32)
_WARM_S = 3.0


def main() -> None:
    """Each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=["slow", "lightgbm"])
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    os.environ |= ONE_THREAD
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory) / "models"
        subprocess.run([sys.executable, "-W", "ignore", str(HERE / "serving_models.py"), str(models)], check=True)
        with millpond(Path(directory) / "data") as server:
            for name in asked.models:
                heading(f"Model '{name}' at twice what it can answer")
                with _ours(server, models / name) as target:
                    _check(target, models / name, asked.seconds)


def _check(target: Target, place: Path, seconds: float) -> None:
    given = json.loads((place / "rows.json").read_text())
    body = json.dumps(target.body({"columns": given["columns"], "data": given["data"][:1]})).encode()
    _load(target, body, 4, 2.0)
    alone = _load(target, body, 1, seconds / 2)
    most = max((_load(target, body, clients, seconds / 4) for clients in _CLIENTS), key=_per_second)
    peak = _per_second(most)
    twice = _rate(target, body, 2 * peak, seconds)
    goodput = _per_second(twice)
    line("p99 with one client", alone["p99_ms"], "ms")
    line("most answers", peak, "/s")
    line("answers at twice that rate", goodput, "/s", goal=f"{goodput / peak:.2f} of the most; goal 0.90")
    ratio = twice["p99_ms"] / alone["p99_ms"]
    line("their p99", twice["p99_ms"], "ms", goal=f"{ratio:.1f} times that of one client; goal below 3")
    line("their p50", twice["p50_ms"], "ms")
    line("told to come back (429)", twice["refused"] / seconds, "/s", goal=f"other errors: {twice['errors'] or 'none'}")


def _per_second(told: Any) -> float:
    return float(told["answers"] / told["seconds"])


def _rate(target: Target, body: bytes, rate: float, seconds: float) -> Any:
    address = urlsplit(target.url)
    command = [sys.executable, str(HERE / "http_rate.py"), str(address.hostname), str(address.port), address.path]
    command += [str(rate), str(_WARM_S), str(seconds), "Content-Type: application/json", *target.headers]
    done = subprocess.run(command, input=body, capture_output=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
