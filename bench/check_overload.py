"""What becomes of an endpoint of ours that is asked twice as much as it can answer.

    check_overload.py [MODEL...] [--seconds S] [--no-capture]      by default slow lightgbm

Three loads on one server: one client, for the latency without load; as many as it takes for the most answers; and
requests that come at twice that rate whatever becomes of them. Goals: of the last one at least 90 % of the most answers
in a second, and the p99 of what is answered below three times that of one client. The server has one half of the cores
and the clients the other. `bench_serving.py` does the same to peers.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.report import heading, line
from bench.serving_targets import ONE_THREAD, Overload, make_models, our_server, ours, overload, request_of


def main() -> None:
    """Each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=["slow", "lightgbm"])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--no-capture", dest="capture", action="store_false")
    asked = parser.parse_args()
    os.environ |= ONE_THREAD
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory) / "models"
        make_models(models, asked.models)
        with our_server(Path(directory) / "data", asked.models) as server:
            for name in asked.models:
                heading(f"Model '{name}' at twice what it can answer")
                with ours(server, models / name, capture=asked.capture) as target:
                    _tell(overload(target, request_of(target, models / name, 1), asked.seconds))


def _tell(told: Overload) -> None:
    line("p99 with one client", told.alone_p99_ms, "ms")
    line("most answers", told.peak, "/s")
    line("requests at twice that rate", told.asked, "/s")
    line("of them answered", told.goodput, "/s", goal=f"{told.goodput / told.peak:.2f} of the most; goal 0.90")
    ratio = told.p99_ms / told.alone_p99_ms
    line("their p99", told.p99_ms, "ms", goal=f"{ratio:.1f} times that of one client; goal below 3")
    line("their p50", told.p50_ms, "ms")
    line("left without an answer at the end", told.waiting, "")
    line("told to come back (429)", told.refused, "/s", goal=f"other errors: {told.errors or 'none'}")


if __name__ == "__main__":
    main()
