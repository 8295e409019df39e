"""Runs the churn tutorial's code against a server: `python -m millpond.examples.churn.run`.

The server and the user come from the variables that `millpond env` prints, as for any client.
"""

import os
import sys
import time
import warnings
from pathlib import Path

from millpond.examples.story import read_steps

HERE = Path(__file__).parent


def main() -> None:
    """Run each step in turn, with its title and the time that it took."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("CHURN_DATA", str(HERE / "telco_churn.parquet"))
    page = HERE / "tutorial.md"
    program: dict[str, object] = {"__name__": "__main__"}
    for step in read_steps(page):
        print(f"\n── {step.title} " + "─" * max(0, 70 - len(step.title)), flush=True)
        began = time.perf_counter()
        source = "\n" * (step.line - 1) + step.code
        exec(compile(source, str(page), "exec"), program)  # noqa: S102 - the code is this package's own page
        print(f"   done in {time.perf_counter() - began:.1f} s", flush=True)
    sys.stdout.flush()
    os._exit(0)  # client libraries' background threads have nothing left to say


if __name__ == "__main__":
    main()
