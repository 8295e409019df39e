"""A process that starts another one, with a session of its own."""

import ctypes
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """`escaping_process PATH`: write the other's id there."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    Path(sys.argv[1]).write_text(f"{other.pid} ")
    time.sleep(600)


if __name__ == "__main__":
    main()
