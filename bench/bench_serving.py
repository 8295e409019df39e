"""What a prediction costs here, behind `mlflow models serve`, and in BentoML, LitServe, MLServer and Ray Serve.

    bench_serving.py [--models NAME...] [--peers NAME...] [--clients N...] [--rows N...] [--seconds S] [--no-capture]
                     [--no-overload]

The figure that counts is answers for each second of CPU of all the server's processes, beyond what they use when nobody
asks, as others may use the machine. Ours keeps each request in an inference table, unless --no-capture is given; what
it does until all are in there counts, and its memory is that of the whole platform. Cold start is from the command to
the first answer; ours from the order to make the endpoint, in a running server. The last line of each is of requests
that come at twice the rate of which most were answered, whatever becomes of them (as `check_overload.py` has it).

By default 1 and 64 clients ask, which takes some 22 minutes in all; --clients takes others, such as 16 and 256. How
each server is set up is said in `serving_targets.py`; peers are installed into environments of their own, made once.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.peers import Peer, cpu_s, memory_mb
from bench.report import heading
from bench.serving_targets import (
    MODELS,
    ONE_THREAD,
    PEERS,
    Target,
    load,
    make_models,
    our_server,
    ours,
    overload,
    peer,
    request_of,
)


def main() -> None:
    """Each model in each server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--peers", nargs="*", default=PEERS)
    parser.add_argument("--clients", nargs="*", type=int, default=(1, 64))
    parser.add_argument("--rows", nargs="*", type=int, default=(1, 100))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--no-capture", dest="capture", action="store_false")
    parser.add_argument("--no-overload", dest="overload", action="store_false")
    asked = parser.parse_args()
    os.environ |= ONE_THREAD
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory) / "models"
        make_models(models, asked.models)
        with our_server(Path(directory) / "data", asked.models) as server:
            for name in asked.models:
                heading(f"Model '{name}'")
                print(_COLUMNS)
                _compare(server, models / name, asked)


def _compare(server: Peer, place: Path, asked: argparse.Namespace) -> None:
    ours_at: dict[tuple[int, int], float] = {}
    for name in ("millpond", *asked.peers):
        served = ours(server, place, capture=asked.capture) if name == "millpond" else peer(name, place)
        try:
            with served as target:
                for at in ((rows, clients) for rows in asked.rows for clients in asked.clients):
                    rate = _measure(name, target, place, *at, asked.seconds, ours_at.get(at))
                    if name == "millpond" and rate:
                        ours_at[at] = rate
                if asked.overload:
                    _overload(name, target, request_of(target, place, 1), asked.seconds)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"  {name}: {error}", flush=True)


_COLUMNS = (
    f"  {'':<10} {'rows':>4} {'clients':>7} {'answers/CPU-s':>13} {'CPU-ms':>8} {'p50 ms':>8} {'p99 ms':>8} "
    f"{'answers/s':>9} {'errors':>6} {'MB':>6} {'start s':>7}  ours is"
)


def _measure(
    name: str, target: Target, place: Path, rows: int, clients: int, seconds: float, our_rate: float | None
) -> float | None:
    """One line; the answers for each second of CPU."""
    body = request_of(target, place, rows)
    before, began = cpu_s(target.pid), time.perf_counter()
    warm = load(target, body, clients, min(0.5, seconds))
    told = load(target, body, clients, seconds)
    time.sleep(target.settles_s)
    spent = cpu_s(target.pid) - before - target.idle_cores * (time.perf_counter() - began)
    answers, errors = warm["answers"] + told["answers"], sum(told["errors"].values())
    if not told["answers"]:
        print(f"  {name:<10} {rows:>4} {clients:>7} no answer: {told['errors']}")
        return None
    rate: float = answers / spent
    ratio = f"{our_rate / rate:.1f} times it" if our_rate else ""
    print(
        f"  {name:<10} {rows:>4} {clients:>7} {rate:>13.0f} {spent / answers * 1000:>8.2f} {told['p50_ms']:>8.1f} "
        f"{told['p99_ms']:>8.1f} {told['answers'] / told['seconds']:>9.0f} {errors:>6} {memory_mb(target.pid):>6.0f} "
        f"{target.cold_start_s:>7.1f}  {ratio}",
        flush=True,
    )
    return rate


def _overload(name: str, target: Target, body: bytes, seconds: float) -> None:
    """One line on what becomes of twice the load that gives the most answers."""
    told = overload(target, body, seconds)
    share, slower = told.goodput / told.peak, told.p99_ms / told.alone_p99_ms
    print(
        f"  {name:<10} {1:>4} asked {told.asked:.0f}/s: answers {told.goodput:.0f}/s, {share:.2f} of the most "
        f"({told.peak:.0f}); p99 {told.p99_ms:.1f} ms, {slower:.1f} times one client's ({told.alone_p99_ms:.1f}); "
        f"refused {told.refused:.0f}/s; errors {told.error_share:.1%} {told.errors or ''}; "
        f"{told.waiting} left waiting",
        flush=True,
    )


if __name__ == "__main__":
    main()
