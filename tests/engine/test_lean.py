"""What commands cost the gateway's process before and after the first one."""

import subprocess
import sys

SCRIPT = """
import sys
from millpond.engine.lean import keep_out
keep_out("pandas")
import millpond.engine.commands
from millpond.engine.commands.answer import TEXT_MAP, table
print(table([("m", TEXT_MAP)], [([("k", "v")],)]).to_pylist())
print(sorted({name.partition(".")[0] for name in sys.modules} & {"pandas", "fastapi", "mlflow", "nicegui", "pyspark"}))
"""


def test_commands_load_nothing_heavy_and_arrow_works_without_pandas() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[{'m': [('k', 'v')]}]", "[]"]
