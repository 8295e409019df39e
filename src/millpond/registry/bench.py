"""What checks use: a version's signature, evaluation tables, and trials in a clean, confined process."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.identity.access import Act, require
from millpond.identity.domain import SYSTEM, Principal
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from millpond.kernel.ids import new_id
from millpond.kernel.process import ChildSpec, spawn
from millpond.registry.checks import Trial
from millpond.tracking.model_files import VersionFiles

_MAX_ROWS = 200_000
_MAX_MLMODEL = 4 << 20
_MODULE = "millpond.registry.trial"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one trial."""

    memory_bytes: int
    timeout_s: float


class Bench:
    """Where trials are made."""

    def __init__(
        self,
        *,
        scratch: Path,
        files: VersionFiles,
        catalog: CatalogService,
        storage_options: Mapping[str, str],
        principal_named: Callable[[str], Principal],
        limits: Limits,
    ) -> None:
        self._scratch = scratch
        self._files = files
        self._catalog = catalog
        self._storage_options = storage_options
        self._principal_named = principal_named
        self._limits = limits

    def tools(self, model: str, author: str) -> "BenchTools":
        """For checks of versions of a model by a policy of this author's."""
        return BenchTools(self, model, author)

    def require_readable(self, principal: Principal, table: str) -> None:
        """Pass if the principal may read a table. Raises NotFound, PermissionDenied."""
        found = self._catalog.get_table(principal, ObjectName.of_full_name(table))
        require(principal, Act.READ, found.securable)

    def signature(self, model: str, version: int) -> Mapping[str, Any] | None:
        """See `checks.Tools`."""
        import yaml  # type: ignore[import-untyped]  # ships no types; mlflow brings it

        raw = self._files.read(SYSTEM, model, str(version), "MLmodel", max_bytes=_MAX_MLMODEL)
        found = yaml.safe_load(raw)
        signature = found.get("signature") if isinstance(found, dict) else None
        return signature if isinstance(signature, dict) else None

    def table(self, author: str, name: str, version: int) -> Any:
        """See `checks.Tools`."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        principal = self._principal_named(author)
        table = self._catalog.get_table(principal, ObjectName.of_full_name(name))
        require(principal, Act.READ, table.securable)
        location = table.storage_location or ""
        options = dict(self._storage_options) if location.startswith("s3") else {}
        try:
            rows = DeltaTable(location, version=version, storage_options=options).to_pyarrow_table()
        except (DeltaError, OSError) as error:
            raise NotFound(f"Version {version} of table '{name}' cannot be read: {error}") from error
        if rows.num_rows > _MAX_ROWS:
            raise InvalidArgument(f"Table '{name}' has {rows.num_rows} rows; a gate looks at {_MAX_ROWS} at most.")
        return rows

    def trial(self, model: str, version: int, *, calls: int, rows: Any) -> Trial:
        """See `checks.Tools`. Blocks for as long as the model takes."""
        with self._directory() as directory:
            model_dir, scratch = directory / "model", directory / "scratch"
            model_dir.mkdir()
            scratch.mkdir()
            self._files.download(self._files.locate(SYSTEM, model, str(version)), model_dir)
            order = _order(scratch, model_dir, calls, rows)
            self._run(model, version, model_dir, scratch, order)
            return Trial(**json.loads((scratch / "answer.json").read_text()))

    def _run(self, model: str, version: int, model_dir: Path, scratch: Path, order: Path) -> None:
        child = spawn(
            ChildSpec(
                module=_MODULE,
                args=(str(order),),
                env=_environment(scratch),
                log_path=scratch.parent / "log",
                memory_bytes=self._limits.memory_bytes,
                sandbox=True,
                readable=(model_dir,),
                writable=(scratch,),
                own_network=True,
                cwd=scratch,
                nice=5,
            )
        )
        try:
            said = child.wait_ready(self._limits.timeout_s)
        except Unavailable as error:
            raise FailedPrecondition(f"Version {version} of model '{model}' did not finish: {error.message}") from error
        finally:
            child.kill()
        if not said.get("ok"):
            raise FailedPrecondition(f"Version {version} of model '{model}' failed: {said.get('message')}")

    @contextmanager
    def _directory(self) -> Iterator[Path]:
        directory = self._scratch / new_id()
        directory.mkdir(parents=True, mode=0o700)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class BenchTools:
    """The `checks.Tools` for one model and one policy."""

    bench: Bench
    model: str
    author: str

    def signature(self, version: int) -> Mapping[str, Any] | None:
        """See `checks.Tools`."""
        return self.bench.signature(self.model, version)

    def trial(self, version: int, *, calls: int = 1, rows: Any = None) -> Trial:
        """See `checks.Tools`."""
        return self.bench.trial(self.model, version, calls=max(1, min(calls, 10_000)), rows=rows)

    def table(self, name: str, version: int) -> Any:
        """See `checks.Tools`."""
        return self.bench.table(self.author, name, version)


def _order(scratch: Path, model_dir: Path, calls: int, rows: Any) -> Path:
    place = ""
    if rows is not None:
        import pyarrow.parquet as pq

        place = str(scratch / "rows.parquet")
        pq.write_table(rows, place)
    order = {"model_dir": str(model_dir), "rows": place, "calls": calls, "answer": str(scratch / "answer.json")}
    path = scratch / "order.json"
    path.write_text(json.dumps(order))
    return path


def _environment(scratch: Path) -> dict[str, str]:
    place = str(scratch)
    return {
        "HOME": place,
        "TMPDIR": place,
        "MPLCONFIGDIR": place,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
