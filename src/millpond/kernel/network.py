"""A network of its own for a child process: only its own loopback, no way out and no way in. Linux, without root.

UNIX sockets that have a path belong to no network: a filter of system calls keeps a process from them.
Source: user_namespaces(7), network_namespaces(7), netdevice(7); seccomp(2), Documentation/userspace-api/seccomp_filter.
"""

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
from contextlib import suppress

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40

_OF_ITS_NETWORK = {"ip_unprivileged_port_start": "0", "ip_local_port_range": "61000 65535"}
"""Ways to a server have its port here too: also 80, and none that a connection of the process has taken meanwhile."""

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_IO_URING_SETUP = 425
_OF_MACHINE = {"x86_64": (0xC000003E, 317, 41, 53), "aarch64": (0xC00000B7, 277, 198, 199)}
"""AUDIT_ARCH, and the numbers of seccomp, socket and socketpair."""
_OTHER_ABI = 0x40000000
"""From here on system calls of x86-64 are those of x32."""
_FAMILIES = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_NETLINK", 16))
_CONNECTED = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
_CALL, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
"""Where they are in seccomp_data; of arguments the lower half, in the order of little-endian machines."""
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000


def isolate() -> bool:
    """Move this process into a new network namespace in which only the loopback device exists.

    Must be called while the process has one thread. False where the system does not allow it; nothing has changed then.
    """
    if platform.system() != "Linux":
        return False
    uid, gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as stream:
            stream.write(text)
    for name, text in _OF_ITS_NETWORK.items():
        with suppress(OSError), open(f"/proc/sys/net/ipv4/{name}", "w") as stream:
            stream.write(text)
    with socket.socket() as control:
        request = struct.pack("16sh22x", b"lo", _IFF_UP | _IFF_RUNNING)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)
    return True


def forbid_unix_sockets(*, but_packets: bool = False) -> bool:
    """Let this process and its children make no sockets but those of the internet, for ever.

    So they reach no database, container engine or bus of this machine through a file. `socketpair`, pipes and what a
    process has inherited stay. io_uring goes too, as it makes sockets past the filter. False where the system cannot.

    `but_packets` leaves UNIX sockets of packets (SOCK_SEQPACKET): CUDA makes one and does not start without it, and
    what listens for a stream or datagrams cannot be reached by them.
    """
    numbers = _OF_MACHINE.get(platform.machine()) if platform.system() == "Linux" else None
    if numbers is None:
        return False
    steps = _filter(*numbers, but_packets=but_packets)
    text = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(libc.syscall(numbers[1], _SET_MODE_FILTER, _ALL_THREADS, program) == 0)


def _filter(
    architecture: int, _seccomp: int, make: int, make_pair: int, *, but_packets: bool
) -> list[tuple[int, int, int, int]]:
    """Instructions: what to do, how many to leave out if it is so and if not, and with which number."""
    allow, deny, unknown = (
        (_RETURN, 0, 0, value) for value in (_ALLOW, _FAIL_WITH | errno.EACCES, _FAIL_WITH | errno.ENOSYS)
    )
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, architecture),
        unknown,
        (_LOAD, 0, 0, _CALL),
        (_IF_AT_LEAST, 1, 0, _OTHER_ABI),
        (_IF_EQUAL, 0, 1, _IO_URING_SETUP),
        unknown,
        (_IF_EQUAL, 2, 0, make),
        (_IF_EQUAL, 7, 0, make_pair),
        allow,
        (_LOAD, 0, 0, _FIRST),
        *((_IF_EQUAL, after, 0, family) for after, family in zip((9, 8, 7), _FAMILIES, strict=True)),
        (_IF_EQUAL, 7 if but_packets else 0, 0, socket.AF_UNIX),
        deny,
        (_LOAD, 0, 0, _SECOND),
        (_AND, 0, 0, 0xF),
        (_IF_EQUAL, 2, 0, _CONNECTED[0]),
        (_IF_EQUAL, 1, 0, _CONNECTED[1]),
        deny,
        allow,
        (_LOAD, 0, 0, _SECOND),
        (_AND, 0, 0, 0xF),
        (_IF_EQUAL, 1, 0, socket.SOCK_SEQPACKET),
        deny,
        allow,
    ]
