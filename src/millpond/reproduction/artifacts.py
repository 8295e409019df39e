"""The artifacts of two runs compared: their files, and the models that they logged."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millpond.kernel.errors import FailedPrecondition
from millpond.reproduction import comparison, predictions
from millpond.reproduction.domain import Finding, Outcome
from millpond.reproduction.server import Server
from millpond.sdk.code import file_sha256

if TYPE_CHECKING:
    from millpond.reproduction.engine import Interpreter, Launch

_OWN_FILES = "millpond/"
_MOST_BYTES = 1 << 30
_MOST_FILES = 2_000
_MOST_ANSWER = 16 << 20
_MODEL_FILE = "MLmodel"
_DOCUMENTS = (".json", ".yaml", ".yml", _MODEL_FILE)


def compare_artifacts(
    server: Server,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    directory: Path,
    interpreter: "Interpreter",
    launch: "Launch",
    tolerance: float,
) -> list[Finding]:
    """A finding for each file. Models whose files differ are asked for their predictions, in the run's environment."""
    places, others = _places(server, first), _places(server, second)
    found: list[Finding] = []
    models: list[tuple[str, Path, Path]] = []
    for number, ((name, one), (_, other)) in enumerate(zip(places, others, strict=False)):
        pair = (directory / f"{number}-first", directory / f"{number}-second")
        for uri, target in zip((one, other), pair, strict=True):
            _fetch(server, uri, target)
        found += _compare_trees(name, *pair, tolerance)
        models += [(each, pair[0] / below, pair[1] / below) for each, below in _models(name, pair[0])]
    if len(places) != len(others):
        message = f"{len(places) - 1} logged models, then {len(others) - 1}"
        found.append(Finding(name="logged models", outcome=Outcome.DIFFERENT, message=message))
    return _with_predictions(found, models, directory, interpreter, launch, tolerance)


def _places(server: Server, run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and location of the run's own artifacts, then those of the models that it logged."""
    outputs = run.get("outputs", {}).get("model_outputs", ())
    return [("", str(run["info"]["artifact_uri"])), *(server.model_location(each["model_id"]) for each in outputs)]


def _fetch(server: Server, uri: str, target: Path) -> None:
    target.mkdir(parents=True)
    left, count = _MOST_BYTES, 0
    for path, size in server.files(uri):
        left, count = left - size, count + 1
        if left >= 0 and count <= _MOST_FILES and not path.startswith(_OWN_FILES):
            server.fetch(uri, path, target / path)


def _compare_trees(name: str, first: Path, second: Path, tolerance: float) -> list[Finding]:
    paths = {
        path.relative_to(side).as_posix() for side in (first, second) for path in side.rglob("*") if path.is_file()
    }
    return [
        _compare_files(f"{name}/{path}".lstrip("/"), first / path, second / path, tolerance) for path in sorted(paths)
    ]


def _compare_files(name: str, first: Path, second: Path, tolerance: float) -> Finding:
    if not first.is_file() or not second.is_file():
        side = "first" if first.is_file() else "second"
        return Finding(name=name, outcome=Outcome.MISSING, message=f"only the {side} run has it")
    if file_sha256(first) == file_sha256(second):
        return Finding(name=name, outcome=Outcome.IDENTICAL)
    if name.endswith(_DOCUMENTS):
        return _compare_documents(name, first, second, tolerance)
    try:
        line = comparison.first_line(first.read_text(), second.read_text())
    except UnicodeDecodeError:
        sizes = f"{first.stat().st_size} bytes, then {second.stat().st_size}"
        return Finding(name=name, outcome=Outcome.DIFFERENT, message=f"other bytes ({sizes})")
    return Finding(name=name, outcome=Outcome.DIFFERENT, message=f"differs from line {line} on")


def _compare_documents(name: str, first: Path, second: Path, tolerance: float) -> Finding:
    import yaml  # type: ignore[import-untyped]  # ships no types; mlflow brings it

    read = json.loads if name.endswith(".json") else yaml.safe_load
    try:
        return comparison.compare_documents(name, read(first.read_text()), read(second.read_text()), tolerance)
    except (ValueError, yaml.YAMLError, RecursionError):
        return Finding(name=name, outcome=Outcome.DIFFERENT, message="other bytes")


def _models(name: str, root: Path) -> list[tuple[str, Path]]:
    """Directories that hold a model, with their names among the findings."""
    return [
        (
            f"{name}/{path.parent.relative_to(root).as_posix()}".strip("/.").removesuffix("/."),
            path.parent.relative_to(root),
        )
        for path in root.rglob(_MODEL_FILE)
    ]


# -- models -------------------------------------------------------------------------------------------------------


def _with_predictions(
    found: Sequence[Finding],
    models: Sequence[tuple[str, Path, Path]],
    directory: Path,
    interpreter: "Interpreter",
    launch: "Launch",
    tolerance: float,
) -> list[Finding]:
    """Binary files of a model that differ say little: its predictions say whether it is equivalent."""
    unclear = [model for model in models if any(_is_binary_of(finding, model[0]) for finding in found)]
    if not unclear:
        return list(found)
    answers = _ask([(str(one), str(other)) for _, one, other in unclear], directory, interpreter, launch)
    decided = list(found)
    for (name, _, _), answer in zip(unclear, answers, strict=True):
        decided = [_decided(each, answer, tolerance) if _is_binary_of(each, name) else each for each in decided]
    return decided


def _is_binary_of(finding: Finding, model: str) -> bool:
    inside = finding.name.startswith(f"{model}/") if model else True
    return inside and finding.outcome is Outcome.DIFFERENT and finding.message.startswith("other bytes (")


def _ask(
    pairs: Sequence[tuple[str, str]], directory: Path, interpreter: "Interpreter", launch: "Launch"
) -> list[dict[str, Any]]:
    from millpond.reproduction.engine import Task

    work = directory / "predictions"
    work.mkdir()
    answer, order = work / "answer.json", work / "order.json"
    order.write_text(json.dumps({"pairs": pairs, "answer": str(answer)}))
    script = work / "predictions.py"
    shutil.copyfile(predictions.__file__, script)
    ended = launch(
        Task(
            interpreter=interpreter, script=script, order=order, directory=work, readable=(directory,),
            variables={"OMP_NUM_THREADS": "1"},
        )
    )  # fmt: skip
    try:
        found: list[dict[str, Any]] = read_answer(answer)
        return found if len(found) == len(pairs) else [{}] * len(pairs)
    except (FailedPrecondition, TypeError):
        return [{"reason": f"the models could not be compared: {ended.log[-200:]}"}] * len(pairs)


def read_answer(path: Path) -> Any:
    """What a program of the run's wrote; nothing is taken on trust. Raises FailedPrecondition."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_ANSWER:
            raise ValueError("it is none")
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise FailedPrecondition(f"the environment that was built gave no readable answer: {error}") from error


def _decided(finding: Finding, answer: Mapping[str, Any], tolerance: float) -> Finding:
    apart = answer.get("apart")
    if not isinstance(apart, int | float):
        return replace(finding, message=f"{finding.message}; {answer.get('reason', 'no predictions')}")
    if apart <= tolerance:
        told = "the same predictions for the input example" if apart == 0 else f"predictions at most {apart:.3g} apart"
        return replace(finding, outcome=Outcome.WITHIN, message=f"other bytes, {told}")
    return replace(finding, message=f"{finding.message}; predictions {apart:.3g} apart")
