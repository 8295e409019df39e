"""From a served entity to a running worker: its model's files, its directories, its limits."""

import asyncio
import os
import shutil
import time
from concurrent.futures import Executor
from pathlib import Path

from millpond.kernel.environments import Environments
from millpond.kernel.errors import MillpondError, Unavailable
from millpond.kernel.gpus import all_gpus
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger
from millpond.kernel.settings import ServingSettings
from millpond.serving.domain import ModelVersion, ServedEntity
from millpond.serving.gpus import VISIBLE, Gpus, GpuShares, refusal
from millpond.serving.models import ModelCache
from millpond.serving.packages import OwnPackages, Packages
from millpond.serving.replicas import Launch, Say
from millpond.serving.scaling import REPLICA_CONCURRENCY
from millpond.serving.variables import Environment, Variables
from millpond.serving.worker_process import LoadFailed, WorkerProcess, WorkerSpec, open_zygote, start_worker

MAX_LOG_BYTES = 8 << 20
_KEPT_LOG_BYTES = 1 << 20
_PAUSE_S = 0.2
_UNUSED_S = 60.0
_LOADS_AT_ONCE = max(4, 2 * (os.cpu_count() or 1))

log = get_logger(__name__)


class Launcher:
    """Starts workers; the one place that knows where their files are."""

    def __init__(
        self,
        *,
        data_dir: Path,
        models: ModelCache,
        variables: Variables,
        settings: ServingSettings,
        executor: Executor,
        environments: Environments | None = None,
    ) -> None:
        self._scratch = data_dir / "run" / "serving"
        self._logs = data_dir / "logs" / "serving"
        self._models = models
        self._variables = variables
        self._settings = settings
        self._executor = executor
        self._packages = OwnPackages(environments)
        self._gpus = GpuShares()
        self._zygote = open_zygote(data_dir / "logs" / "serving.log")
        self._gate = asyncio.Semaphore(_LOADS_AT_ONCE)

    def clean(self) -> None:
        """Remove what workers of an earlier server left. Blocks."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def close(self) -> None:
        """End what workers are started with, once they have ended. Blocks."""
        if self._zygote is not None:
            self._zygote.close()

    def log_paths(self, endpoint_id: str, entity: ServedEntity) -> dict[int, Path]:
        """What a served entity's workers have written, by the number of the replica."""
        found = (self._logs / endpoint_id).glob(f"{entity.worker_key}.*.log")
        return {int(path.name.split(".")[1]): path for path in sorted(found)}

    def launch_for(self, endpoint_id: str, entity: ServedEntity) -> Launch:
        """What starts one worker for the entity, as a replica with a number, as often as it is called."""

        async def launch(replica: int, say: Say) -> WorkerProcess:
            gpus = await self._take_gpus(entity)
            try:
                log_path = self._logs / endpoint_id / f"{entity.worker_key}.{replica}.log"
                worker = await self._launch(log_path, entity, gpus, say)
            except BaseException:
                self._gpus.give_back(gpus)
                raise
            worker.ended.add_done_callback(lambda _: self._gpus.give_back(gpus))
            return worker

        return launch

    async def release(self, model: ModelVersion) -> None:
        """Say that a pool has ended, which held its model's files."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._models.release, model)

    async def hold(self, model: ModelVersion) -> Path:
        """The model's files, fetched where needed, until `release`. Raises LoadFailed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.start_timeout_s
        try:
            while True:
                try:
                    return await loop.run_in_executor(self._executor, self._models.hold, model)
                except Unavailable:  # the registry is still being loaded, just after the server's start
                    if loop.time() > deadline:
                        raise
                    await asyncio.sleep(_PAUSE_S)
        except MillpondError as error:
            raise LoadFailed(f"The model's files could not be fetched: {error.message}") from error
        except Exception as error:  # an artifact store may raise anything; its owner reads what
            log.error("fetching a model failed", model=model.name, version=model.version, exc_info=error)
            text = f"The model's files could not be fetched: {type(error).__name__}; the server's log says more."
            raise LoadFailed(text) from error

    async def _take_gpus(self, entity: ServedEntity) -> Gpus:
        if not entity.workload_type.most_gpus:
            return ()
        there = await asyncio.get_running_loop().run_in_executor(self._executor, all_gpus)
        if not there:
            raise LoadFailed(refusal(entity))
        return self._gpus.take(entity.workload_type, there)

    async def _environment(self, entity: ServedEntity) -> Environment:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._variables.resolve, entity)
        except MillpondError as error:
            raise LoadFailed(
                "The secrets of environment variables are read at each start, with the rights of who made the "
                f"configuration, {entity.creator}: {error.message} Give that account READ permission, or update the "
                "endpoint's configuration as somebody who has it."
            ) from error

    def prune_logs(self, wanted: frozenset[tuple[str, str]]) -> None:
        """Delete the logs of all but these endpoints' worker keys, unless something was written just now. Blocks."""
        long_ago = time.time() - _UNUSED_S
        for path in self._logs.glob("*/*.log"):
            served = (path.parent.name, path.name.split(".")[0]) in wanted
            if not served and path.stat().st_mtime < long_ago:
                path.unlink()
        for directory in self._logs.glob("*"):
            if directory.stat().st_mtime < long_ago and not any(directory.iterdir()):
                directory.rmdir()

    def bound_logs(self) -> None:
        """Shorten each log that has grown too long to its end. Blocks."""
        for path in self._logs.glob("*/*.log"):
            if path.stat().st_size > MAX_LOG_BYTES:
                _keep_end(path)

    async def _launch(self, log_path: Path, entity: ServedEntity, gpus: Gpus, say: Say) -> WorkerProcess:
        if entity.model.is_spec:
            return await self._start(log_path, entity, gpus, None, Packages())
        async with self._gate:
            model_dir = await self.hold(entity.model)
        packages = Packages()
        try:
            packages = await self._packages.hold(model_dir, say)
            worker = await self._start(log_path, entity, gpus, model_dir, packages)
        except BaseException:
            packages.release()
            await asyncio.shield(self.release(entity.model))
            raise
        worker.ended.add_done_callback(lambda _: packages.release())
        worker.ended.add_done_callback(lambda _: self._models.release(entity.model))
        return worker

    async def _start(
        self, log_path: Path, entity: ServedEntity, gpus: Gpus, model_dir: Path | None, packages: Packages
    ) -> WorkerProcess:
        try:
            environment = await self._environment(entity)
            spec = WorkerSpec(
                model_dir=model_dir,
                scratch_dir=self._scratch / new_id(),
                log_path=log_path,
                environment={**environment.variables, VISIBLE: ",".join(gpus)},
                secrets=environment.secrets,
                gpus=bool(gpus),
                threads=REPLICA_CONCURRENCY,
                memory_bytes=self._settings.memory_limit_bytes,
                start_timeout_s=self._settings.start_timeout_s,
                own=packages.built,
                network=entity.asks_for_network or self._settings.network == "always",
            )
            async with self._gate:
                worker = await start_worker(spec, self._executor, self._zygote)
        except OSError as error:  # no memory, no process, no file descriptor: it may go better later
            raise LoadFailed(f"The server could not start the model's process: {error.strerror or error}.") from error
        except Unavailable as error:
            raise LoadFailed(f"The server could not start the model's process: {error.message}") from error
        except LoadFailed as error:
            error.build_log = packages.build_log + error.build_log
            raise
        worker.build_log = packages.build_log + worker.build_log
        worker.notes = " ".join(filter(None, [packages.notes, worker.notes]))
        return worker


def _keep_end(path: Path) -> None:
    """Workers append, so the file is cut in place, and is never empty for who reads it meanwhile."""
    with path.open("r+b") as stream:
        stream.seek(-_KEPT_LOG_BYTES, os.SEEK_END)
        kept = b"[earlier output was dropped]\n" + stream.read()
        stream.seek(0)
        stream.write(kept)
        stream.truncate(len(kept))
