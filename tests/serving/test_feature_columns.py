"""Columns with features that the server has looked up are answered past MLflow's parsing, and nobody can tell.

Two processes have the same model, one of them with a feature spec beside it: that is the one that looks for the way.
"""

import asyncio
import math
import random
import shutil
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from millpond.features.spec import FILE
from millpond.serving import columns
from millpond.serving.frames import Kind
from millpond.serving.worker_process import Answer, Question, WorkerProcess, WorkerSpec, start_worker
from tests.serving.test_fast_path import COLUMNS, USUAL

EXACT = "columns of the signature's types"
READ = f"{EXACT}, columns of smaller whole numbers, columns of the request"
SQL = {
    "booster": {"tenure": "INT", "charges": "DOUBLE", "total": "FLOAT", "senior": "BOOLEAN"},
    "forest": {"tenure": "BIGINT", "charges": "DOUBLE", "total": "DOUBLE", "senior": "BOOLEAN", "contract": "STRING",
               "payment": "STRING"},
    "linear": {"charges": "DOUBLE", "total": "DOUBLE"},
}  # fmt: skip
SMALLER = {"BIGINT": "SMALLINT", "INT": "TINYINT", "DOUBLE": "INT"}
ODD: list[Any] = [None, True, 0, -0.0, 1.5, 7, 1e300, 2**31, 2**63, 2**70, "x", "", "a\0", "None", [1], float("nan")]


def request(chance: random.Random, model: str, *, odd: float) -> bytes:
    """Columns in any order, each of a SQL type or brought by the request."""
    names = chance.sample(COLUMNS[model], len(COLUMNS[model]))
    rows = chance.randrange(1, 5)
    types, given = {}, {}
    for name in names:
        given[name] = [chance.choice(ODD) if chance.random() < odd else USUAL[name](chance) for _ in range(rows)]
        if chance.random() < 0.7:
            types[name] = SQL[model][name]
            if types[name] in SMALLER and chance.random() < 0.3:
                types[name], given[name] = SMALLER[types[name]], [chance.choice((0, 7, 100)) for _ in range(rows)]
    params = {"any": 1} if chance.random() < odd / 4 else None
    return columns.encode(given, types=types | {"not given": "DATE"}, params=params)


def started(model_dir: Path, directory: Path, executor: ThreadPoolExecutor) -> Awaitable[WorkerProcess]:
    directory.mkdir()
    spec = WorkerSpec(
        model_dir=model_dir, scratch_dir=directory / "scratch", log_path=directory / "log", environment={}, secrets=(),
        threads=4, memory_bytes=4 << 30, start_timeout_s=120,
    )  # fmt: skip
    return start_worker(spec, executor)


@pytest.mark.parametrize(
    "model", ["booster", *(pytest.param(each, marks=pytest.mark.long) for each in ("forest", "linear"))]
)
def test_columns_with_features_are_answered_as_by_mlflow(tmp_path: Path, models: Path, model: str) -> None:
    with_spec = tmp_path / model
    shutil.copytree(models / model, with_spec)
    (with_spec / FILE).write_text("format: 1\n")
    chance = random.Random(model)
    bodies = [request(chance, model, odd=0.0 if number % 3 else 0.2) for number in range(90)]

    async def compare() -> None:
        async with AsyncExitStack() as stack:
            executor = stack.enter_context(ThreadPoolExecutor(4))
            quick = await started(with_spec, tmp_path / "quick", executor)
            stack.push_async_callback(quick.stop)
            plain = await started(models / model, tmp_path / "plain", executor)
            stack.push_async_callback(plain.stop)
            read = EXACT if model == "linear" else READ  # its sums are rounded otherwise where columns have other types
            assert read in quick.build_log, quick.build_log
            assert "columns of" not in plain.build_log
            expected = [await ask(plain, body) for body in bodies]
            found = [await ask(quick, body) for body in bodies]
            together = await asyncio.gather(*(ask(quick, body) for body in bodies[:40]))
        for body, ours, theirs in zip(bodies * 2, [*found, *together], [*expected, *expected[:40]], strict=False):
            assert (ours.status, ours.body) == (theirs.status, theirs.body), body
        assert {answer.status for answer in expected} == {200, 400}

    asyncio.run(compare())


async def ask(worker: WorkerProcess, body: bytes) -> Answer:
    worker.take()
    return await worker.ask(Question(kind=Kind.PREDICT, body=body), math.inf)
