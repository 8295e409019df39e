"""Which files a program opens to read, besides its libraries."""

import os
import sys
import sysconfig
from collections.abc import Sequence

_MOST = 5_000
_OWN_DIRECTORIES = {".git", ".config", ".ipython", ".jupyter", "matplotlib"}
"""What git, MLflow, notebooks and plots keep for themselves."""
_SYSTEM = ("/usr/", "/lib", "/proc/", "/sys/", "/dev/", "/etc/", "/opt/venv")


class OpenedFiles:
    """Paths that went through Python's own `open`; libraries in other languages open files unseen."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}
        roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
        self._hidden = (*_SYSTEM, *(root + os.sep for root in roots if root))
        sys.addaudithook(self._saw)

    def paths(self) -> Sequence[str]:
        """All of them, in the order of the first look."""
        return list(self._paths)

    def _saw(self, event: str, args: tuple[object, ...]) -> None:
        if event != "open" or len(self._paths) >= _MOST:
            return
        path, mode, flags = args
        if not isinstance(path, str) or not _reads(mode, flags) or path.endswith((".pyc", ".py", ".so")):
            return
        full = path if path.startswith("/") else os.path.join(os.getcwd(), path)
        if not full.startswith(self._hidden) and not _OWN_DIRECTORIES & set(full.split(os.sep)):
            self._paths.setdefault(full)


def _reads(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return "r" in mode and "+" not in mode
    return isinstance(flags, int) and flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_DIRECTORY
