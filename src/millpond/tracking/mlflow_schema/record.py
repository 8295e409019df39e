"""Record MLflow's schema after an upgrade of MLflow: `python -m millpond.tracking.mlflow_schema.record POSTGRES_URL`.

It runs MLflow's migrations on an empty SQLite file and on an empty PostgreSQL database, and writes what they made to
`sqlite.sql` and `postgresql.sql`. PostgreSQL's `pg_dump` must be on the PATH. Afterwards, set RECORDED_MLFLOW and
RECORDED_REVISION in `__init__.py`; a test compares the record with the migrations.
"""

import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from sqlalchemy import create_engine

from millpond.kernel.database import driver_url

_HERE = Path(__file__).parent


def main(postgres_url: str) -> None:
    """Write both records."""
    from mlflow.store.db.utils import _initialize_tables

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mlflow.db"
        _initialize_tables(create_engine(f"sqlite:///{path}"))
        _write("sqlite", sqlite_statements(path))
    _initialize_tables(create_engine(driver_url(postgres_url)))
    dump = ["pg_dump", "--schema-only", "--no-owner", "--no-privileges", "--no-comments", postgres_url]
    text = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
    _write("postgresql", postgres_statements(text))


def sqlite_statements(path: Path) -> list[str]:
    """The statements that make the schema of an SQLite file, tables first."""
    rows = sqlite3.connect(path).execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
        "ORDER BY CASE type WHEN 'table' THEN 0 ELSE 1 END, rowid"
    )
    return [_one_line(row[0]) for row in rows]


def postgres_statements(dump: str) -> list[str]:
    """The statements of a pg_dump without its settings and without the schema's name."""
    lines = [line for line in dump.splitlines() if not line.startswith(("--", "\\"))]
    statements = re.split(r";\n\n", "\n".join(lines) + "\n\n")
    wanted = (_one_line(statement).replace("public.", "") for statement in statements)
    return [statement for statement in wanted if statement.startswith(("CREATE", "ALTER"))]


def _one_line(statement: str) -> str:
    return " ".join(statement.split()).rstrip(";")


def _write(dialect: str, statements: list[str]) -> None:
    (_HERE / f"{dialect}.sql").write_text("\n".join(statements) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
