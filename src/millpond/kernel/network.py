"""A network of its own for a child process: only its own loopback, no way out and no way in. Linux, without root.

Source: user_namespaces(7), network_namespaces(7), netdevice(7).
"""

import ctypes
import fcntl
import os
import platform
import socket
import struct

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40


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
    with socket.socket() as control:
        request = struct.pack("16sh22x", b"lo", _IFF_UP | _IFF_RUNNING)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)
    return True
