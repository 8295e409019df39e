"""Which packages a served model has: the server's where it was logged with them, else an environment of its own."""

import asyncio
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from millpond.kernel.environments import BuiltEnvironment, Environments, required_by
from millpond.kernel.errors import MillpondError
from millpond.kernel.logs import get_logger
from millpond.serving.worker.environment import Environment, check_environment
from millpond.serving.worker_process import LoadFailed

_FOR_QUICK_ANSWERS = "msgspec>=0.19"
_PYTHONS = "/usr/local/bin:/usr/bin:/bin"
"""Where another version of Python is looked for."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Packages:
    """What a worker imports from."""

    built: BuiltEnvironment | None = None
    """None for the server's own."""
    build_log: str = ""
    notes: str = ""
    release: Callable[[], None] = lambda: None
    """To be called when the worker has ended: an environment is not removed before."""


class OwnPackages:
    """Finds or builds what models need. Without `environments`, all have the server's packages."""

    def __init__(self, environments: Environments | None) -> None:
        self._environments = environments
        self._building: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def hold(self, model_dir: Path, say: Callable[[str, str], None]) -> Packages:
        """The packages for a model, until they are released. `say` takes what goes on, and the build log so far.

        Raises LoadFailed where its environment cannot be built.
        """
        if self._environments is None:
            return Packages()
        found = await asyncio.to_thread(check_environment, model_dir)
        if not found.missing and not found.conflicting:
            return Packages()
        begun = f"{found.build_log}An environment of its own is needed.\n"
        say(f"Building an environment of its own. {found.notes}", begun)
        async with self._building[model_dir]:  # its replicas share what the first one of them has built
            return await self._held(self._environments, model_dir, found, begun)

    async def _held(self, environments: Environments, model_dir: Path, found: Environment, begun: str) -> Packages:
        stack = ExitStack()
        try:
            built = await _aside(partial(_enter, stack, environments, model_dir, found), stack.close)
        except MillpondError as error:
            text = f"The model's environment could not be built. {error.message}\n{found.notes}"
            raise LoadFailed(text, build_log=f"{begun}{error.message}\n") from error
        except Exception as error:
            log.error("an environment could not be built", model_dir=str(model_dir), exc_info=error)
            text = f"The model's environment could not be built ({type(error).__name__}); the server's log says more."
            raise LoadFailed(text, build_log=begun) from error
        listed = "".join(f"  {name}\n" for name in built.installed)
        return Packages(
            built=built,
            build_log=f"{begun}Environment {built.key}, with {len(built.installed)} packages:\n{listed}",
            notes=f"Runs in an environment of its own, with {len(built.installed)} packages.",
            release=stack.close,
        )


def _enter(stack: ExitStack, environments: Environments, model_dir: Path, found: Environment) -> BuiltEnvironment:
    """Build where needed, and hold. Blocks."""
    requirements, python = required_by(model_dir)
    if python is not None and shutil.which(f"python{_minor(python)}", path=_PYTHONS) is None:
        python = None  # then with ours; the worker says so
    named = any(line.strip().lower().startswith("msgspec") for line in requirements)
    wanted = requirements if named else [*requirements, _FOR_QUICK_ANSWERS]
    return stack.enter_context(environments.held(wanted, python))


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


async def _aside(work: Callable[[], BuiltEnvironment], undo: Callable[[], None]) -> BuiltEnvironment:
    """The result of long work in a thread of its own, which the server does not wait for when it stops.

    Undone when it ends after whoever waited for it has gone.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[BuiltEnvironment] = loop.create_future()

    def settle(built: BuiltEnvironment | None, error: BaseException | None) -> None:
        if done.cancelled():
            undo()
        elif error is not None:
            done.set_exception(error)
        elif built is not None:
            done.set_result(built)

    def run() -> None:
        built, error = None, None
        try:
            built = work()
        except BaseException as raised:  # goes to whoever waits
            error = raised
        if loop.is_closed():
            undo()
        else:
            loop.call_soon_threadsafe(settle, built, error)

    threading.Thread(target=run, name="environment", daemon=True).start()
    return await done
