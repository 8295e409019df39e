"""`python -m millpond.parity.function_process QUESTION ANSWER`: call functions, as a serving worker does, and end.

Runs in a confined child; both are files in its scratch directory.
"""

import sys
from pathlib import Path

from millpond.kernel.child import report_ready
from millpond.serving.worker.answers import Refusal
from millpond.serving.worker.functions import Functions

_MOST_TEXT = 4000


def main() -> None:
    """Answer the question."""
    try:
        Path(sys.argv[2]).write_bytes(Functions().call(Path(sys.argv[1]).read_bytes()))
    except Refusal as refusal:
        report_ready({"ok": False, "message": str(refusal)[:_MOST_TEXT]})
    else:
        report_ready({"ok": True})


if __name__ == "__main__":
    main()
