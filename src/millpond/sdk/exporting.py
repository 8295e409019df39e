"""A registered model as a directory that runs without this platform: a container's build context, and ONNX.

What is written is tried: the locked packages are put into an environment of their own, the entry point runs there with
nothing of Millpond, and its answers are compared with those that the platform gives to the same requests.
"""

import json
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millpond.features.spec import FILE as SPEC
from millpond.sdk import exported

_SERVER = ("mlflow", "fastapi", "uvicorn", "pandas")
"""What the entry point imports."""
_FOR_ONNX = ("onnx", "onnxruntime", "skl2onnx", "onnxmltools")
_NEEDS_OPENMP = ("lightgbm", "xgboost", "scikit-learn")
_UNFINISHED = ".unfinished-"
"""Begins the name of what a process that was killed leaves in the directory."""
_GENERATED = 3
_ROWS = 20
_RELATIVE = 1e-9
"""Numbers may be so far apart: both sides run the same packages."""
_START_S, _ANSWER_S = 600.0, 120.0
"""The first import of what was just installed compiles all of it."""
Ask = Callable[[bytes], tuple[int, Any]]
"""The platform's answer to a request in MLflow's JSON: status and parsed body."""


class ExportError(Exception):
    """The model cannot be exported, for a reason that its user can do something about."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How an exported model compares with the platform's."""

    requests: int
    rows: int
    different: Sequence[str] = ()
    """What differed, request by request."""

    @property
    def same(self) -> bool:
        """Whether all answers are the same."""
        return not self.different


@dataclass(frozen=True, kw_only=True)
class Export:
    """What is in the directory."""

    directory: Path
    parity: Parity | None
    """None where it was not asked for."""
    onnx: Mapping[str, Any] = field(default_factory=dict)
    """What was converted, or `refused` and why."""


def export_model(
    uri: str, directory: Path, ask: Ask, *, check: bool = True, onnx: bool = False, say: Callable[[str], None] = print
) -> Export:
    """Write the model of a `models:/` URI into a new directory, with MLflow's client and so with its user's rights.

    Raises ExportError.
    """
    if directory.exists() and any(directory.iterdir()):
        raise ExportError(f"{directory} is not empty; give a new directory.")
    with _whole(directory) as place:
        return _exported(uri, directory, place, ask, check=check, onnx=onnx, say=say)


@contextmanager
def _whole(directory: Path) -> Iterator[Path]:
    """A place for what the directory has once the block has ended well; else nothing of it stays."""
    is_new = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=directory))
    try:
        yield place
        for found in place.iterdir():
            found.rename(directory / found.name)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if is_new and not any(directory.iterdir()):
            directory.rmdir()


def _exported(
    uri: str, directory: Path, place: Path, ask: Ask, *, check: bool, onnx: bool, say: Callable[[str], None]
) -> Export:
    _download(uri, place / "model")
    say(f"{uri} downloaded")
    described = _described(place / "model")
    python = _python_version(place / "model")
    _write_context(place, python, uri)
    _lock(place, python)
    say(f"packages locked: {_count(place / 'requirements.lock')} for Python {python}")
    if not (check or onnx):
        return Export(directory=directory, parity=None)
    requests = _requests(place / "model", described)
    with _environment(place, python, _FOR_ONNX if onnx else ()) as interpreter:
        say("packages installed in an environment of their own")
        parity = _checked(place, interpreter, requests, ask) if check else None
        converted = _to_onnx(place, interpreter, requests) if onnx else {}
    _write_report(place, uri, parity, converted)
    return Export(directory=directory, parity=parity, onnx=converted)


def _download(uri: str, target: Path) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        mlflow.artifacts.download_artifacts(uri, dst_path=str(target))
    except (MlflowException, OSError) as error:
        raise ExportError(f"{uri} cannot be downloaded: {error}") from error
    if not (target / "MLmodel").is_file():
        raise ExportError(f"{uri} has no MLmodel file.")


def _described(model: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]  # ships no types; mlflow brings it

    found = yaml.safe_load((model / "MLmodel").read_text())
    if "python_function" not in (found.get("flavors") or {}):
        raise ExportError("The model has no python_function flavor; nothing here could run it.")
    return dict(found)


def _python_version(model: Path) -> str:
    """The minor version that the model was logged with."""
    import yaml

    place = model / "python_env.yaml"
    told = str(yaml.safe_load(place.read_text()).get("python") or "") if place.is_file() else ""
    parts = (told or ".".join(map(str, sys.version_info[:2]))).split(".")
    return ".".join(parts[:2])


# -- the build context ------------------------------------------------------------------------------------------------


def _write_context(directory: Path, python: str, uri: str) -> None:
    listed = directory / "model" / "requirements.txt"
    wanted = listed.read_text().splitlines() if listed.is_file() else []
    names = {line.partition("=")[0].partition("[")[0].strip().lower() for line in wanted}
    wanted += [name for name in _SERVER if name not in names]
    (directory / "requirements.in").write_text("\n".join(wanted) + "\n")
    shutil.copyfile(Path(exported.__file__).with_name("serve.py"), directory / "serve.py")
    system = "libgomp1" if names & set(_NEEDS_OPENMP) else ""
    (directory / "Dockerfile").write_text(dockerfile(python, system))
    (directory / ".dockerignore").write_text("*.md\nparity.json\nmodel.onnx\n")
    (directory / "README.md").write_text(_readme(uri, has_features=(directory / "model" / SPEC).is_file()))


def dockerfile(python: str, system: str = "") -> str:
    """The text of a Dockerfile for the context; `system` are packages of Debian."""
    install = (
        f"RUN apt-get update && apt-get install -y --no-install-recommends {system} && rm -rf /var/lib/apt/lists/*\n"
        if system
        else ""
    )
    return (
        f"FROM python:{python}-slim\n{install}"
        "WORKDIR /opt/model\n"
        "COPY requirements.lock .\n"
        "RUN pip install --no-cache-dir --require-hashes -r requirements.lock\n"
        "COPY serve.py .\n"
        "COPY model model\n"
        "RUN useradd --system --no-create-home served\n"
        "USER served\n"
        "ENV HOST=0.0.0.0 PORT=8080 HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1\n"
        "EXPOSE 8080\n"
        "HEALTHCHECK --interval=10s --timeout=3s --start-period=60s "
        "CMD python -c \"import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ping')\"\n"
        'CMD ["python", "serve.py"]\n'
    )


def _readme(uri: str, *, has_features: bool) -> str:
    more = "\nIt was logged with features: requests have to bring their values, as nothing looks them up here.\n"
    return (
        f"# {uri}\n\nRun it without Docker:\n\n"
        "    python -m venv env && env/bin/pip install --require-hashes -r requirements.lock\n"
        "    PORT=8080 env/bin/python serve.py\n\n"
        "or with it:\n\n    docker build -t model . && docker run -p 8080:8080 model\n\n"
        "`GET /ping`, and `POST /invocations` with MLflow's JSON (dataframe_records, dataframe_split, instances, "
        "inputs) or CSV. `parity.json` says how it compared with the platform when it was exported.\n"
        f"{more if has_features else ''}"
    )


def _lock(directory: Path, python: str) -> None:
    _uv(
        directory, "pip", "compile", "requirements.in", "--output-file", "requirements.lock", "--generate-hashes",
        "--python-version", python, "--quiet", "--no-annotate", "--only-binary", ":all:",
    )  # fmt: skip


def _count(lock: Path) -> int:
    return sum("==" in line for line in lock.read_text().splitlines())


@contextmanager
def _environment(directory: Path, python: str, more: Sequence[str]) -> Iterator[Path]:
    """An interpreter with the locked packages, and others beside them, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="millpond-export-") as place:
        env = Path(place) / "env"
        interpreter = env / "bin" / "python"
        _uv(directory, "venv", "--quiet", "--python", python, str(env))
        to = ("--quiet", "--python", str(interpreter))
        _uv(directory, "pip", "install", *to, "--require-hashes", "-r", "requirements.lock")
        if more:
            _uv(directory, "pip", "install", *to, "--only-binary", ":all:", *more, "-c", "requirements.in")
        yield interpreter


def _uv(directory: Path, *arguments: str) -> None:
    from uv import find_uv_bin

    done = subprocess.run([find_uv_bin(), *arguments], cwd=directory, capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip()[-2000:]
        raise ExportError(f"The model's packages cannot be had (uv {' '.join(arguments[:2])}): {told}")


# -- parity -----------------------------------------------------------------------------------------------------------


def _requests(model: Path, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The model's own example, and some made of its signature."""
    example = model / "serving_input_example.json"
    found = [json.loads(example.read_text())] if example.is_file() else []
    signature = described.get("signature") or {}
    columns = json.loads(signature.get("inputs") or "[]")
    if columns and all(column.get("type") in _VALUES for column in columns):
        made = random.Random(0)  # noqa: S311 - the same requests each time
        found += [_generated(columns, made) for _ in range(_GENERATED)]
    if not found:
        raise ExportError(
            "The model has neither an input example nor a signature of plain columns, so nothing can be compared; log "
            "it with one, or export it with --no-check."
        )
    return found


_VALUES: Mapping[str, Callable[[random.Random], Any]] = {
    "double": lambda made: round(made.gauss(0, 10), 6),
    "float": lambda made: round(made.gauss(0, 10), 3),
    "long": lambda made: made.randrange(0, 100),
    "integer": lambda made: made.randrange(0, 100),
    "boolean": lambda made: made.random() < 0.5,
    "string": lambda made: made.choice(("", "a", "Month-to-month", "é")),
    "datetime": lambda made: f"2026-01-{made.randrange(1, 28):02d}T00:00:00",
}


def _generated(columns: Sequence[Mapping[str, Any]], made: random.Random) -> dict[str, Any]:
    data = [[_VALUES[column["type"]](made) for column in columns] for _ in range(_ROWS)]
    if any("name" not in column for column in columns):
        return {"dataframe_split": {"data": data}}
    return {"dataframe_split": {"columns": [column["name"] for column in columns], "data": data}}


def _checked(directory: Path, interpreter: Path, requests: Sequence[Any], ask: Ask) -> Parity:
    different, rows, answered = [], 0, 0
    with _served(directory, interpreter) as url:
        for number, request in enumerate(requests):
            body = json.dumps(request).encode()
            (theirs, told), (ours, wanted) = _post(url, body), ask(body)
            if theirs != ours:
                different.append(f"request {number}: status {theirs} here and {ours} on the platform")
            elif theirs == 200 and (where := _first_difference(told, wanted, "")):
                different.append(f"request {number}: {where}")
            answered += theirs == 200
            rows += len(told["predictions"]) if theirs == 200 and isinstance(told.get("predictions"), list) else 0
    if not answered:
        different.append(f"nothing was compared: all {len(requests)} requests were refused; log an input example")
    return Parity(requests=len(requests), rows=rows, different=different)


@contextmanager
def _served(directory: Path, interpreter: Path) -> Iterator[str]:
    """The entry point as the Dockerfile starts it, with an environment that knows nothing of this platform."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = interpreter.parent.parent.parent / "serve.log"
    env = {
        "PATH": os.environ.get("PATH", ""), "HOME": str(log.parent), "HOST": "127.0.0.1", "PORT": str(port),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }  # fmt: skip
    with log.open("wb") as output:
        served = subprocess.Popen(
            [str(interpreter), "-P", "serve.py"], cwd=directory, env=env, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait(f"http://127.0.0.1:{port}/ping", served, log)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        served.terminate()
        try:
            served.wait(10)
        except subprocess.TimeoutExpired:
            served.kill()
            served.wait()


def _wait(url: str, served: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while served.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own address
            return
        except OSError:
            time.sleep(0.1)
    raise ExportError(f"The entry point did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _post(url: str, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read()[:500].decode(errors="replace")


def _first_difference(found: Any, wanted: Any, path: str) -> str:
    """Where two answers differ first; empty where they do not."""
    if isinstance(found, dict) and isinstance(wanted, dict) and found.keys() == wanted.keys():
        inner = (_first_difference(found[key], wanted[key], f"{path}.{key}") for key in found)
        return next(filter(None, inner), "")
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return next(filter(None, (_first_difference(a, b, f"{path}[{at}]") for at, (a, b) in pairs)), "")
    numbers = all(isinstance(each, int | float) for each in (found, wanted))
    if found == wanted or (numbers and math.isclose(found, wanted, rel_tol=_RELATIVE)):
        return ""
    return f"{path or 'the answer'} is {str(found)[:100]} here and {str(wanted)[:100]} on the platform"


# -- ONNX -------------------------------------------------------------------------------------------------------------


def _to_onnx(directory: Path, interpreter: Path, requests: Sequence[Any]) -> dict[str, Any]:
    script = Path(exported.__file__).with_name("to_onnx.py")
    asked = interpreter.parent.parent.parent / "requests.json"
    asked.write_text(json.dumps(requests))
    done = subprocess.run(
        [str(interpreter), "-P", str(script), str(directory / "model"), str(asked), str(directory / "model.onnx")],
        capture_output=True, text=True, cwd=asked.parent,
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(asked.parent)},
    )  # fmt: skip
    if done.returncode:
        return {"refused": f"the conversion failed: {done.stderr.strip()[-500:]}"}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _write_report(directory: Path, uri: str, parity: Parity | None, onnx: Mapping[str, Any]) -> None:
    told: dict[str, Any] = {"model": uri, "relative_tolerance": _RELATIVE}
    if parity is not None:
        told["container"] = {
            "same": parity.same, "requests": parity.requests, "rows": parity.rows, "different": list(parity.different)
        }  # fmt: skip
    if onnx:
        told["onnx"] = dict(onnx)
    (directory / "parity.json").write_text(json.dumps(told, indent=2) + "\n")
