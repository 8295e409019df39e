"""A Redis for tests: one of their own when the command is there, else the one that MILLPOND_TEST_REDIS_URL names."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a Redis that keeps its log on disk."""
    if url := os.environ.get("MILLPOND_TEST_REDIS_URL"):
        yield url
        return
    with tempfile.TemporaryDirectory() as directory, running_redis(directory, free_port()) as (url, _process):
        yield url


@contextmanager
def running_redis(directory: str, port: int) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A Redis process on a port, with its files in a directory."""
    command = [
        shutil.which("redis-server") or "redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", directory,
        "--appendonly", "yes", "--appendfsync", "always", "--save", "",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        _wait(url)
        yield url, process
    finally:
        process.kill()
        process.wait()


def _wait(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            redis.Redis.from_url(url).ping()
            return
        except redis.exceptions.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
