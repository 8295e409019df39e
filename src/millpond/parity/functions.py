"""Functions of a spec, called as serving calls them: by the same code, in a confined process for one question."""

import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from millpond.feature_serving.service import Invocation
from millpond.kernel.errors import FailedPrecondition, Unavailable
from millpond.kernel.ids import new_id
from millpond.kernel.process import ChildSpec, spawn
from millpond.serving.calls import asked_bytes, results_of

_MODULE = "millpond.parity.function_process"
_TIMEOUT_S = 120.0
_MEMORY_BYTES = 2 << 30
_MOST_ANSWER = 64 << 20


def caller(scratch: Path) -> Callable[[Sequence[Invocation]], Awaitable[Sequence[Sequence[Any]]]]:
    """Calls functions, each time in a process of its own below a directory."""

    async def call(asked: Sequence[Invocation]) -> Sequence[Sequence[Any]]:
        with _directory(scratch) as directory:
            return _called(directory, asked)

    return call


def _called(directory: Path, asked: Sequence[Invocation]) -> Sequence[Sequence[Any]]:
    question, answer = directory / "question", directory / "answer"
    question.write_bytes(asked_bytes(asked))
    child = spawn(
        ChildSpec(
            module=_MODULE, args=(str(question), str(answer)), log_path=directory / "log",
            memory_bytes=_MEMORY_BYTES, sandbox=True, writable=(directory,), own_network=True, cwd=directory, nice=5,
            env={"HOME": str(directory), "TMPDIR": str(directory), "PYTHONDONTWRITEBYTECODE": "1"},
        )
    )  # fmt: skip
    try:
        said = child.wait_ready(_TIMEOUT_S)
    except Unavailable as error:
        raise FailedPrecondition(f"The functions of the feature spec did not finish: {error.message}") from error
    finally:
        child.kill()
    if not said.get("ok"):
        raise FailedPrecondition(str(said.get("message")))
    if answer.is_symlink() or answer.stat().st_size > _MOST_ANSWER:  # it was written beside users' code
        raise FailedPrecondition("The functions of the feature spec gave too large an answer.")
    return results_of(answer.read_bytes(), asked)


@contextmanager
def _directory(scratch: Path) -> Iterator[Path]:
    directory = scratch / new_id()
    directory.mkdir(parents=True, mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
