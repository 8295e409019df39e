"""`python driver.py ORDER`: runs captured code as it was run. In the environment that was built for it; it knows
nothing of Millpond, and only the standard library.
"""

import json
import os
import runpy
import sys
import traceback
from typing import Any


def main() -> None:
    """Do what the order says; the exit code is the code's own."""
    with open(sys.argv[1]) as stream:
        order = json.load(stream)
    os.chdir(order["cwd"])
    sys.argv[1:] = order["argv"]
    kind = order["kind"]
    if kind == "script":
        sys.argv[0] = order["entry"]
        sys.path[0] = os.path.dirname(order["entry"])
        runpy.run_path(order["entry"], run_name="__main__")
    elif kind == "module":
        sys.path[0] = os.getcwd()
        runpy.run_module(order["entry"], run_name="__main__", alter_sys=True)
    elif kind == "command":
        sys.argv[0] = "-c"
        sys.path[0] = ""
        exec(compile(order["text"], "<command>", "exec"), {"__name__": "__main__"})  # noqa: S102 - what was asked for
    else:
        _run_cells(order["cells"])


def _run_cells(cells: list[str]) -> None:
    """The cells of a notebook, one after the other, until one fails."""
    sys.path[0] = ""
    from IPython.core.interactiveshell import InteractiveShell  # that of the run's environment

    shell: Any = InteractiveShell.instance()
    for cell in cells:
        if cell.strip():
            shell.run_cell(cell, store_history=True).raise_error()


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
