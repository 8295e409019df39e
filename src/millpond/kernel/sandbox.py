"""Landlock: a process gives up, for itself and its children, all file access but what is listed. Linux only.

Works without root. Source: Linux, Documentation/userspace-api/landlock.rst (syscalls 444 to 446, ABI 1 to 7).
"""

import ctypes
import os
import platform
import struct
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_CREATE_RULESET_VERSION = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FILE_RIGHTS = (
    _EXECUTE | 1 << 1 | _READ_FILE | 1 << 14 | 1 << 15
)  # those that make sense on a file: + write, truncate, ioctl
_MAKE_DEVICES, _MAKE_LINKS = 1 << 6 | 1 << 11, 1 << 12
"""Not even where it may write: who follows a planted symbolic link may have more rights than who planted it."""
_HIGHEST_RIGHT_OF_ABI = {1: 12, 2: 13, 3: 14, 4: 14}  # from ABI 5 on: 15
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # ABI 6

_SYSTEM_FILES = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/proc", "/sys", "/dev",
    *(f"/etc/{name}" for name in (
        "ssl", "ca-certificates", "localtime", "timezone", "passwd", "group", "nsswitch.conf", "hosts", "resolv.conf",
        "host.conf", "gai.conf", "ld.so.cache", "mime.types", "alternatives", "fonts", "services", "protocols",
    )),
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/shm")  # noqa: S108

_THREADS = "/proc/self/task"
"""CUDA names its threads, and does not start where it cannot (nolabs-ai/nono#673). The rule is for this process alone:
those that it starts have other directories."""


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    if platform.system() != "Linux":
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)))


def python_paths() -> tuple[Path, ...]:
    """What this interpreter must read to run and import: prefixes, libraries and `sys.path`."""
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *sys.path}
    return tuple(Path(root) for root in sorted(roots) if root and os.path.isabs(root) and root != "/")


def restrict(*, readable: Iterable[Path], writable: Iterable[Path], links: bool = False, gpus: bool = False) -> bool:
    """Confine this process to system libraries, the interpreter, `readable` (read) and `writable` (all).

    `links` lets it make symbolic links where it may write, `gpus` compute on NVIDIA's GPUs. False where the kernel has
    no Landlock; the caller decides whether to go on.
    """
    abi = landlock_abi()
    if abi == 0:
        return False
    all_rights = (1 << (_HIGHEST_RIGHT_OF_ABI.get(abi, 15) + 1)) - 1
    scope = _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if abi >= 6 else 0
    attributes = struct.pack("=QQQ", all_rights, 0, scope)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    libc = _libc()
    ruleset = _check(libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    for path in (*map(Path, _SYSTEM_FILES), *python_paths(), *readable):
        _allow(libc, ruleset, path, _READ & all_rights)
    denied = _MAKE_DEVICES if links else _MAKE_DEVICES | _MAKE_LINKS
    for path in (*map(Path, _DEVICES), *writable, *(_of_gpus() if gpus else ())):
        _allow(libc, ruleset, path, all_rights & ~denied)
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    _drop_capabilities(libc)
    return True


def _of_gpus() -> tuple[Path, ...]:
    return (Path(_THREADS), *Path("/dev").glob("nvidia*"))


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what does not exist needs no rule
    try:
        rights = rights if path.is_dir() else rights & _FILE_RIGHTS
        rule = struct.pack("=Qi", rights, descriptor)
        _check(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(descriptor)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Root without capabilities: else it could read other processes' memory through /proc, past Landlock."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(libc.capset(header, bytes(24)))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
