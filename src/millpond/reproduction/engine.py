"""Makes a run again: its environment, code and inputs as they were, the code in a clean process, then the comparison.

It is a client of the API, and the same on a user's machine as beside the server; `Launch` is how code is run there.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from millpond.kernel.environments import Environments
from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.reproduction import comparison, driver, restoring
from millpond.reproduction.artifacts import compare_artifacts, read_answer
from millpond.reproduction.domain import (
    OWN,
    Capture,
    Finding,
    Outcome,
    Verdict,
    blocking,
    doubtful,
    requirements_of,
    worst,
)
from millpond.reproduction.server import Server
from millpond.sdk import CAPTURE_TAG, READS_OF_WORD, REPRODUCTION_TAG

_VERDICT_FILE, _VERDICT_TAG = "millpond/verdict.json", "millpond.verdict"
INTERRUPTED = "interrupted"
_LOG_BYTES = 4000
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """What runs the code."""

    python: Path
    readable: tuple[Path, ...] = ()
    """What a confined process must be able to read to use it."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A program to run to its end."""

    interpreter: Interpreter
    script: Path
    order: Path
    variables: Mapping[str, str]
    directory: Path
    """Its own; it may write there."""
    readable: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a program ended."""

    ok: bool
    log: str


Launch = Callable[[Task], Ended]


class Reproducer:
    """Makes runs again, each in a directory of its own."""

    def __init__(
        self,
        server: Server,
        launch: Launch,
        environments: Environments,
        *,
        own_python: Path | None = None,
        may_look: bool = False,
        tolerance: float,
        say: Say = lambda _text: None,
    ) -> None:
        """`own_python` is used instead of an environment that is built; `may_look` takes files from where they were."""
        self._server = server
        self._launch = launch
        self._environments = environments
        self._own_python = own_python
        self._may_look = may_look
        self._tolerance = tolerance
        self._say = say

    def reproduce(self, run_id: str, reproduction_id: str, directory: Path) -> Verdict:
        """The verdict. Raises MillpondError where the server does not answer; what cannot be done is a verdict."""
        told = self._server.get(f"/api/millpond/runs/{run_id}/capture")
        if told["capture"] is None:
            return Verdict(outcome=Outcome.IMPOSSIBLE, missing=tuple(told["missing"]))
        capture = Capture(id=told["id"], start=told["capture"], end=told["end"])
        missing = (*told["missing"], *blocking(capture))
        if missing:
            return Verdict(outcome=Outcome.IMPOSSIBLE, missing=missing)
        try:
            with self._interpreter(capture) as (interpreter, lacks):
                return self._again(run_id, reproduction_id, directory, capture, told["tables"], interpreter, lacks)
        except (FailedPrecondition, InvalidArgument) as error:
            return Verdict(outcome=Outcome.IMPOSSIBLE, missing=(*missing, f"environment: {error.message}"))

    # -- the environment ----------------------------------------------------------------------------------------

    @contextmanager
    def _interpreter(self, capture: Capture) -> Iterator[tuple[Interpreter, Sequence[str]]]:
        """What runs the code, and what it lacks; an environment that was built stays while the block runs."""
        if self._own_python is not None:
            yield Interpreter(python=self._own_python), ()
            return
        wanted = requirements_of(capture)
        self._say(f"Building the environment: Python {capture.python}, {len(wanted.lines)} packages.")
        with self._environments.held(wanted.lines, capture.python, complete=True) as built:
            yield Interpreter(python=built.python, readable=built.readable), wanted.missing

    def _surroundings(self, capture: Capture, interpreter: Interpreter, directory: Path) -> list[str]:
        """What is otherwise than it was: packages, interpreter, machine."""
        now = _look(interpreter, self._launch, directory)
        notes = comparison.compare_packages(capture.start["packages"], now["packages"], frozenset({OWN}))
        pairs = [
            ("Python", capture.python, now["python"]["version"]),
            *((f"{key} of the machine", capture.start["platform"][key], now["platform"][key])
              for key in ("system", "machine", "libc", "processor")),
            ("number of processors", capture.start["threads"]["usable_cpus"], now["threads"]["usable_cpus"]),
        ]  # fmt: skip
        return notes + [f"{what}: {before}, then {after}" for what, before, after in pairs if before != after]

    # -- the run ------------------------------------------------------------------------------------------------

    def _again(
        self,
        run_id: str,
        reproduction_id: str,
        directory: Path,
        capture: Capture,
        tables: Sequence[Mapping[str, Any]],
        interpreter: Interpreter,
        lacks: Sequence[str],
    ) -> Verdict:
        code = directory / "work" / "code"
        code.mkdir(parents=True)
        bundles = self._bundles(run_id, capture, directory)
        restoring.restore_code(bundles, code)
        inputs = [*_tables(tables), *restoring.restore_inputs(capture, code, may_look=self._may_look)]
        self._say("Running the code.")
        ended = self._launch(self._task(run_id, reproduction_id, directory, capture, code, interpreter, bundles[0]))
        missing = [*lacks, *doubtful(capture), *_not_restored(inputs)]
        notes = self._surroundings(capture, interpreter, directory)
        verdict = Verdict(
            outcome=Outcome.FAILED, inputs=tuple(inputs), missing=tuple(missing), notes=tuple(notes),
            tolerance=self._tolerance, log="" if ended.ok else ended.log[-_LOG_BYTES:],
        )  # fmt: skip
        first = self._server.run(run_id)
        second = self._counterpart(first, capture, reproduction_id)
        if second is None:
            why = "the code ended without a run that corresponds to this one"
            return replace(verdict, notes=(why, *verdict.notes), log=ended.log[-_LOG_BYTES:])
        self._say("Comparing.")
        return self._compared(first, second, verdict, ended, interpreter, directory)

    def _bundles(self, run_id: str, capture: Capture, directory: Path) -> list[Path]:
        parts = ["start"] + (["end"] if capture.end is not None else [])
        for part in parts:
            target = directory / f"{part}.zip"
            self._server.download(f"/api/millpond/runs/{run_id}/capture/bundle", target, part=part)
        return [directory / f"{part}.zip" for part in parts]

    def _task(
        self,
        run_id: str,
        reproduction_id: str,
        directory: Path,
        capture: Capture,
        code: Path,
        interpreter: Interpreter,
        bundle: Path,
    ) -> Task:
        work = directory / "work"
        command = restoring.text_of(bundle, "command.py")
        order = restoring.write_order(work, capture, code, command)
        plugin = restoring.lay_plugin(work / "plugin")
        shutil.copyfile(driver.__file__, work / "driver.py")
        beside = [str(code / place / part) for place in requirements_of(capture).beside_code for part in (".", "src")]
        kept = {name: value for name, value in capture.start["variables"].items() if name != "PYTHONPATH"}
        agent = f"_SPARK_CONNECT_PYTHON {READS_OF_WORD}{capture.process}/{self._until_ms(run_id)}"
        variables = {
            "OMP_NUM_THREADS": str(capture.start["threads"]["usable_cpus"]),
            **kept,
            "PYTHONPATH": ":".join([str(plugin), *beside]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MPLBACKEND": "Agg",
            "MLFLOW_REGISTRY_URI": "millpond-reproduction://registry",
            "MILLPOND_REPRODUCES": f"{run_id}/{reproduction_id}",
            "MILLPOND_RANDOM": str(work / "random.json"),
            "SPARK_CONNECT_USER_AGENT": agent,
        }
        return Task(
            interpreter=interpreter, script=work / "driver.py", order=order, variables=variables, directory=work
        )

    def _until_ms(self, run_id: str) -> int:
        return int(self._server.run(run_id)["info"].get("end_time", 0) or 0)

    def _counterpart(self, first: Mapping[str, Any], capture: Capture, reproduction_id: str) -> dict[str, Any] | None:
        """The run of the second process that stands where the run stood among those of the first."""
        experiment = first["info"]["experiment_id"]
        before = self._server.runs_tagged(experiment, CAPTURE_TAG, f"{capture.process}-%")
        now = self._server.runs_tagged(experiment, REPRODUCTION_TAG, reproduction_id)
        place = [run["info"]["run_id"] for run in before].index(first["info"]["run_id"])
        return now[place] if place < len(now) else None

    # -- the comparison -----------------------------------------------------------------------------------------

    def _compared(
        self,
        first: Mapping[str, Any],
        second: Mapping[str, Any],
        verdict: Verdict,
        ended: Ended,
        interpreter: Interpreter,
        directory: Path,
    ) -> Verdict:
        metrics = comparison.compare_metrics(self._metrics(first), self._metrics(second), self._tolerance)
        params = comparison.compare_texts(_own_params(first, second), _params(second))
        artifacts = compare_artifacts(
            self._server, first, second, directory / "compare", interpreter, self._launch, self._tolerance
        )
        outcome = worst([*metrics, *params, *artifacts])
        if not ended.ok and first["info"]["status"] != "FAILED":
            outcome = Outcome.FAILED
        return replace(
            verdict, outcome=outcome, new_run_id=second["info"]["run_id"], metrics=tuple(metrics),
            params=tuple(params), artifacts=tuple(artifacts),
        )  # fmt: skip

    def _metrics(self, run: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
        names = [each["key"] for each in run["data"].get("metrics", ()) if not each["key"].startswith("system/")]
        return {name: self._server.metric_history(run["info"]["run_id"], name) for name in names}


def _look(interpreter: Interpreter, launch: Launch, directory: Path) -> dict[str, Any]:
    """The surroundings as the plugin sees them in the environment that was built."""
    work = directory / "look"
    plugin = restoring.lay_plugin(work / "plugin")
    script, order, answer = work / "look.py", work / "order.json", work / "answer.json"
    script.write_text(_LOOK)
    order.write_text(json.dumps({"answer": str(answer)}))
    ended = launch(
        Task(interpreter=interpreter, script=script, order=order, directory=work, variables={"PYTHONPATH": str(plugin)})
    )
    if not ended.ok:
        raise FailedPrecondition(f"the environment that was built does not work: {ended.log[-500:]}")
    found: dict[str, Any] = read_answer(answer)
    return found


_LOOK = """
import json, sys
from millpond.sdk import environment
order = json.load(open(sys.argv[1]))
with open(order["answer"], "w") as stream:
    json.dump({**environment.describe(), "packages": environment.packages()}, stream)
"""


def _tables(tables: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Tables at the versions that the run read."""
    found = []
    for each in tables:
        name = f"{each['name']}@{each['version']}"
        if each["problem"]:
            found.append(Finding(name=name, outcome=Outcome.MISSING, message=each["problem"]))
        else:
            found.append(Finding(name=name, outcome=Outcome.IDENTICAL, message=each["note"]))
    return found


def _not_restored(inputs: Sequence[Finding]) -> list[str]:
    return [f"input {each.name}: {each.message}" for each in inputs if each.outcome is not Outcome.IDENTICAL]


def _own_params(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, str]:
    """The first run's params; those that `mlflow run` logged are among the second's arguments, not its params."""
    found, again = _params(first), _params(second)
    tags = {each["key"]: each["value"] for each in first["data"].get("tags", ())}
    if tags.get("mlflow.source.type") != "PROJECT":
        return found
    return {key: value for key, value in found.items() if key in again}


def _params(run: Mapping[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"] for each in run["data"].get("params", ())}


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as it is stored and sent."""
    return asdict(verdict)


def keep_verdict(server: Server, verdict: Verdict) -> None:
    """Write the verdict to the new run: as a tag, and as an artifact."""
    if verdict.new_run_id:
        run = server.run(verdict.new_run_id)
        server.set_tag(verdict.new_run_id, _VERDICT_TAG, verdict.outcome.value)
        data = json.dumps(verdict_json(verdict), indent=2).encode()
        server.keep(run["info"]["artifact_uri"], _VERDICT_FILE, data)


def mark_interrupted(server: Server, run_id: str, reproduction_id: str) -> None:
    """Say of runs that earlier attempts began what became of them: no verdict, and nobody goes on with them."""
    experiment = server.run(run_id)["info"]["experiment_id"]
    for run in server.runs_tagged(experiment, REPRODUCTION_TAG, f"{reproduction_id}.%"):
        if _VERDICT_TAG not in {each["key"] for each in run["data"].get("tags", ())}:
            server.set_tag(run["info"]["run_id"], _VERDICT_TAG, INTERRUPTED)
        if run["info"]["status"] == "RUNNING":
            server.end_run(run["info"]["run_id"], "KILLED")
