"""A server's writer and committer, killed again and again; prints the id of each request that was answered.

`python -m tests.inference_tables.killed DATA_DIR DATABASE_URL TABLE_ID KILLS`. Each is a fork of this process, which
has imported all and begun nothing.
"""

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from millpond.inference_tables.segments import Record
from millpond.kernel.database import Database
from tests.inference_tables.conftest import ADMIN, opened
from tests.inference_tables.test_rows import record


def work(data_dir: Path, url: str, table_id: str, turn: int) -> None:
    """Answer and commit until killed."""
    captured = opened(Database(url), data_dir)
    log = captured.log(full_bytes=2000)
    committer = captured.committer(log)

    def commit() -> None:
        while True:
            committer.run_once()

    threading.Thread(target=commit, daemon=True).start()
    number = 0
    while True:
        name = f"{turn}-{number}"
        log.append(table_id, Record(about=record(id=name, who=ADMIN), request=b'{"inputs": [1]}', response=b"{}"))
        os.write(1, f"{name}\n".encode())
        number += 1
        time.sleep(random.random() / 500)


def main() -> None:
    """Kill each in its midst."""
    data_dir, url, table_id, kills = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    for turn in range(kills):
        child = os.fork()
        if child == 0:
            work(data_dir, url, table_id, turn)
        time.sleep(0.2 + random.random() / 2)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
