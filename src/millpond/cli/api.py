"""The server's API for commands: which server, as whom, and its errors as ours.

A command takes `--profile` (of `~/.databrickscfg`, as `millpond login` writes it) or `--data-dir` (of a server on this
machine); without either the variables that `millpond env` prints, then the profile `millpond`.
"""

import configparser
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from millpond.cli.connect import PROFILE_FILE, connection_of
from millpond.cli.server import trusting
from millpond.kernel.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MillpondError,
    NotFound,
    Unavailable,
)

DEFAULT_PROFILE = "millpond"
_TIMEOUT_S = 60
_BYTES = "application/octet-stream"
_AWAY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


@dataclass(frozen=True, kw_only=True)
class Api:
    """A server and a token."""

    url: str
    token: str = field(repr=False)
    certificate: str | None = None
    """The certificate to trust, of a server on this machine; None for the usual trust."""
    spark_remote: str = field(default="", repr=False)
    """How PySpark connects with the token, to a server on this machine."""

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """The JSON of a GET. Raises MillpondError with what the server said."""
        return self.call("GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON of a POST. Raises MillpondError with what the server said."""
        return self.call("POST", path, body or {})

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """JSON for JSON. Raises NotFound, AlreadyExists, or MillpondError with what the server said."""
        data = None if body is None else json.dumps(body).encode()
        answer = self._send(method, path, data, "application/json")
        try:
            found: dict[str, Any] = json.loads(answer or b"{}")
        except ValueError as error:
            raise Unavailable(f"{self.url} does not answer as a Millpond server: {error}.") from error
        return found

    def read_file(self, path: str) -> bytes:
        """A file of a volume. Raises NotFound."""
        return self._send("GET", _file(path), None, _BYTES)

    def write_file(self, path: str, content: bytes, *, overwrite: bool) -> None:
        """A file of a volume, with the directories above it. Raises AlreadyExists."""
        directory = path.rpartition("/")[0]
        self._send("PUT", f"/api/2.0/fs/directories{urllib.parse.quote(directory)}", b"", _BYTES)
        self._send("PUT", f"{_file(path)}?overwrite={str(overwrite).lower()}", content, _BYTES)

    def remove_file(self, path: str) -> None:
        """Remove a file of a volume. Raises NotFound."""
        self._send("DELETE", _file(path), None, _BYTES)

    def _send(self, method: str, path: str, data: bytes | None, content_type: str) -> bytes:
        request = urllib.request.Request(self.url + path, data=data, method=method)  # noqa: S310 - the user's address
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", content_type)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=trusting(self.certificate)) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise _said(error, self.url) from error
        except OSError as error:
            raise Unavailable(f"{self.url} does not answer as a Millpond server: {error}.") from error


def api_command(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which server, and its first argument, the Api."""

    @click.option("--profile", help="A profile of ~/.databrickscfg, as 'millpond login' writes it.")
    @click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Or: the data directory of a "
                  "server on this machine.")  # fmt: skip
    @wraps(command)
    def with_api(profile: str | None, data_dir: Path | None, **arguments: Any) -> None:
        command(open_api(profile, data_dir), **arguments)

    return with_api


def open_api(profile: str | None, data_dir: Path | None) -> Api:
    """The server that is meant. Raises FailedPrecondition, InvalidArgument."""
    if data_dir is not None:
        state, credentials = connection_of(data_dir)
        return Api(
            url=state.url,
            token=credentials.token,
            certificate=state.certificate,
            spark_remote=state.spark_remote(credentials.token),
        )
    host, token = os.environ.get("DATABRICKS_HOST"), os.environ.get("DATABRICKS_TOKEN")
    if profile is None and host and token:
        return Api(url=host.rstrip("/"), token=token)
    return _from_profile(profile)


def _from_profile(name: str | None) -> Api:
    path = Path(os.environ.get("DATABRICKS_CONFIG_FILE") or PROFILE_FILE).expanduser()
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    wanted = name or DEFAULT_PROFILE
    if not parser.has_section(wanted):
        if name is not None:
            raise InvalidArgument(f"{path} has no profile '{name}'.")
        raise FailedPrecondition("Which server? Run 'millpond login' once, or give --profile or --data-dir.")
    section = parser[wanted]
    if "host" not in section or "token" not in section:
        raise InvalidArgument(f"Profile '{wanted}' in {path} has no host and token.")
    return Api(url=section["host"].rstrip("/"), token=section["token"])


def _file(path: str) -> str:
    return f"/api/2.0/fs/files{urllib.parse.quote(path)}"


def _said(error: urllib.error.HTTPError, url: str) -> MillpondError:
    try:
        told = json.load(error)
        message, code = str(told["message"]), str(told.get("error_code", ""))
    except (ValueError, KeyError, TypeError):
        message, code = f"{url} answered {error.code}.", ""
    if error.code in _AWAY:
        return Unavailable(message)
    if code.endswith("ALREADY_EXISTS"):
        return AlreadyExists(message)
    return NotFound(message) if error.code == HTTPStatus.NOT_FOUND else MillpondError(message)
