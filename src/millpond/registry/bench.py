"""What checks use: a version's signature, evaluation tables, and trials in a clean, confined process."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from millpond.catalog.domain import ObjectName
from millpond.catalog.names import quote
from millpond.catalog.service import CatalogService
from millpond.identity.access import Act, require
from millpond.identity.domain import SYSTEM, Principal
from millpond.kernel.environments import BuiltEnvironment, Environments, required_by
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, Unavailable
from millpond.kernel.ids import new_id
from millpond.kernel.process import ChildSpec, spawn
from millpond.registry.checks import Looked, Replay, TrafficReplay, Trial, at_version
from millpond.registry.evaluations import Evaluations
from millpond.registry.policies import SERVER, Policy
from millpond.tracking.evaluations import Evaluation
from millpond.tracking.model_files import VersionFiles

_MAX_ROWS = 200_000
_MAX_MLMODEL = 4 << 20
_MAX_CALLS = 10_000
_MAX_ANSWER = 64 << 20
_MODULE = "millpond.registry.trial"


Query = Callable[[Principal, str, int], Any]
"""Runs a query as somebody; its first so many rows as an Arrow table."""
Replays = Callable[[str, str, int, Replay], Looked]
"""Replays keys for a version of a model with the rights of somebody, by their name; keeps what it found as a report."""
TrafficReplays = Callable[[str, int], Sequence[TrafficReplay]]
"""How a version of a model answered recorded requests, newest first."""


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
        query: Query,
        replays: Replays,
        traffic_replays: TrafficReplays,
        evaluations: Evaluations,
        environments: Environments,
        principal_named: Callable[[str], Principal],
        limits: Limits,
    ) -> None:
        self._scratch = scratch
        self._files = files
        self._catalog = catalog
        self._query = query
        self.replays = replays
        self.traffic_replays = traffic_replays
        self.evaluations = evaluations
        self._environments = environments
        self._principal_named = principal_named
        self._limits = limits

    def tools(self, model: str, policy: Policy) -> "BenchTools":
        """For a policy's checks of versions of a model."""
        return BenchTools(self, model, policy)

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

    def query(self, author: str, text: str, *, what: str) -> Any:
        """The rows of a query, as a policy's author gets them. Raises InvalidArgument for too many."""
        rows = self._query(self._principal_named(author), text, _MAX_ROWS + 1)
        if rows.num_rows > _MAX_ROWS:
            raise InvalidArgument(f"{what} has more than {_MAX_ROWS} rows; a gate looks at no more.")
        return rows

    def trial(
        self, model: str, version: int, *, calls: int, rows: Mapping[str, Any], environment: str = SERVER
    ) -> Trial:
        """Let a version predict its input example so often, and the rows of Arrow tables; blocks meanwhile.

        Raises FailedPrecondition with what the model said when it fails, or why its own environment cannot be built.
        """
        with self._directory() as directory:
            model_dir, scratch = directory / "model", directory / "scratch"
            model_dir.mkdir()
            scratch.mkdir()
            self._files.download(self._files.locate(SYSTEM, model, str(version)), model_dir)
            order = _order(scratch, model_dir, calls, rows)
            with self._environment(model_dir, environment) as built:
                self._run(model, version, model_dir, scratch, order, built)
            installed = built.installed if built else ()
            return replace(_answer(scratch / "answer.json", model, version), installed=installed)

    @contextmanager
    def _environment(self, model_dir: Path, environment: str) -> Iterator[BuiltEnvironment | None]:
        if environment == SERVER:
            yield None
            return
        with self._environments.held(*required_by(model_dir)) as built:
            yield built

    def _run(
        self, model: str, version: int, model_dir: Path, scratch: Path, order: Path, built: BuiltEnvironment | None
    ) -> None:
        child = spawn(
            ChildSpec(
                module=_MODULE,
                args=(str(order),),
                python=built.python if built else None,
                env=_environment(scratch),
                log_path=scratch.parent / "log",
                memory_bytes=self._limits.memory_bytes,
                sandbox=True,
                readable=(model_dir, *(built.readable if built else ())),
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


class BenchTools:
    """The `checks.Tools` for one model and one policy. One process does for a version what all its checks ask for."""

    def __init__(self, bench: Bench, model: str, policy: Policy) -> None:
        self._bench = bench
        self._model = model
        self._author = policy.author
        self._environment = policy.environment
        asked = [check.params for check in policy.rules.checks]
        self._wanted = {_place(params) for params in asked if {"table", "table_version", "label"} <= set(params)}
        self._tables: dict[str, Any] = {}
        self._trials: dict[int, Trial | FailedPrecondition] = {}

    def signature(self, version: int) -> Mapping[str, Any] | None:
        """See `checks.Tools`."""
        return self._bench.signature(self._model, version)

    def table(self, name: str, version: int, columns: Sequence[str] = ()) -> Any:
        """See `checks.Tools`."""
        wanted = ", ".join(map(quote, columns)) or "*"
        text = f"SELECT {wanted} FROM {at_version(name, version)}"  # noqa: S608 - names are quoted
        if text not in self._tables:
            self._tables[text] = self._bench.query(self._author, text, what=f"Table '{name}'")
        return self._tables[text]

    def query(self, text: str) -> Any:
        """See `checks.Tools`."""
        return self._bench.query(self._author, text, what="The answer")

    def evaluations(self, version: int) -> Sequence[Evaluation]:
        """See `checks.Tools`."""
        return self._bench.evaluations.of(self._model, version)

    def writers(self, evaluation: Evaluation) -> frozenset[str]:
        """See `checks.Tools`."""
        return self._bench.evaluations.writers(evaluation)

    def trial(self, version: int, *, calls: int) -> Trial:
        """See `checks.Tools`."""
        found = self._trials.get(version)
        if found is None or (isinstance(found, Trial) and found.p99_ms is None and calls):
            found = self._trials[version] = self._tried(version, calls)
        if isinstance(found, FailedPrecondition):
            raise found
        return found

    def predictions(self, version: int, table: str, table_version: int, label: str) -> Sequence[Any]:
        """See `checks.Tools`."""
        place = (table, table_version, label)
        if place not in self._wanted:
            self._wanted.add(place)
            self._trials.pop(version, None)
        return self.trial(version, calls=0).predictions[_name(place)]

    def replay(self, version: int, asked: Replay) -> Looked:
        """See `checks.Tools`."""
        return self._bench.replays(self._author, self._model, version, asked)

    def traffic_replays(self, version: int) -> Sequence[TrafficReplay]:
        """See `checks.Tools`."""
        return self._bench.traffic_replays(self._model, version)

    def _tried(self, version: int, calls: int) -> Trial | FailedPrecondition:
        rows = {_name(place): self.table(*place[:2]).drop_columns([place[2]]) for place in sorted(self._wanted)}
        try:
            calls = min(calls, _MAX_CALLS)
            return self._bench.trial(self._model, version, calls=calls, rows=rows, environment=self._environment)
        except FailedPrecondition as error:
            return error


def _place(params: Mapping[str, Any]) -> tuple[str, int, str]:
    return params["table"], params["table_version"], params["label"]


def _name(place: tuple[str, int, str]) -> str:
    return "@".join(map(str, place))


def _answer(path: Path, model: str, version: int) -> Trial:
    """What the process wrote; it ran the model's code, so nothing is taken on trust."""
    try:
        if path.is_symlink() or path.stat().st_size > _MAX_ANSWER:
            raise ValueError("the answer is too large")
        said = json.loads(path.read_text())
        p99_ms = None if said["p99_ms"] is None else float(said["p99_ms"])
        predictions = {str(name): list(values) for name, values in said["predictions"].items()}
        return Trial(
            load_s=float(said["load_s"]), p99_ms=p99_ms, peak_mb=float(said["peak_mb"]), predictions=predictions
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FailedPrecondition(f"Version {version} of model '{model}' gave no readable answer: {error}.") from error


def _order(scratch: Path, model_dir: Path, calls: int, rows: Mapping[str, Any]) -> Path:
    import pyarrow.parquet as pq

    places = {}
    for number, (name, table) in enumerate(rows.items()):
        places[name] = str(scratch / f"rows-{number}.parquet")
        pq.write_table(table, places[name])
    order = {"model_dir": str(model_dir), "rows": places, "calls": calls, "answer": str(scratch / "answer.json")}
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
