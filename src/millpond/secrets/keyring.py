"""The master keys that this server knows: from the settings, from a command, or from files in the data directory.

The database names the key that is in use; a key here is found by that name. So a rotation is one transaction that
changes names and wrapped keys together, and until it is committed, and after, the right key is found.
"""

import os
import shlex
import subprocess
import threading
from pathlib import Path

from millpond.home import write_private_once
from millpond.kernel.errors import FailedPrecondition
from millpond.kernel.logs import get_logger, mask_secrets
from millpond.kernel.settings import SecretsSettings
from millpond.secrets.envelope import Key

_COMMAND_TIMEOUT_S = 30
log = get_logger(__name__)


class MasterKeyUnavailable(FailedPrecondition):
    """The master key is not here, so secrets cannot be read or written. None of them is lost by that."""


class Keyring:
    """Finds master keys, and makes one where none is configured. Thread-safe; everything here may block."""

    def __init__(self, directory: Path, settings: SecretsSettings) -> None:
        self._directory = directory
        self._settings = settings
        self._lock = threading.Lock()
        self._known: dict[str, Key] = {}

    def get(self, key_id: str) -> Key:
        """The key with this name. Raises MasterKeyUnavailable."""
        with self._lock:
            if key_id not in self._known:
                self._known |= {key.id: key for key in self._configured()}
            if key_id not in self._known:
                self._known[key_id] = self._from_file(key_id)
            return self._known[key_id]

    def fresh(self) -> Key:
        """The key to use from now on: the configured one, or else a new one, which is on disk when this returns.

        Raises MasterKeyUnavailable when the configured one cannot be had.
        """
        with self._lock:
            key = self._current() or self._made()
            self._known[key.id] = key
            return key

    def path_of(self, key_id: str) -> Path:
        """Where the file of a key is, if it has one."""
        return self._directory / f"{key_id}.key"

    def _current(self) -> Key | None:
        return _chosen("secrets.key", self._settings.key, self._settings.key_command)

    def _configured(self) -> list[Key]:
        previous = _chosen("secrets.previous_key", self._settings.previous_key, self._settings.previous_key_command)
        return [key for key in (self._current(), previous) if key is not None]

    def _from_file(self, key_id: str) -> Key:
        path = self.path_of(key_id)
        try:
            key = Key.parse(path.read_text())
        except FileNotFoundError:
            raise MasterKeyUnavailable(
                f"The secrets are encrypted with master key {key_id}, which this server does not have: {path} does not "
                "exist, and no setting secrets.key, secrets.previous_key or command of theirs gives it. "
                "Bring it back from a backup."
            ) from None
        except (OSError, ValueError) as error:
            raise MasterKeyUnavailable(
                f"The master key in {path} cannot be read ({type(error).__name__}); bring it back from a backup."
            ) from error
        if key.id != key_id:
            raise MasterKeyUnavailable(f"{path} holds another key than {key_id}; bring it back from a backup.")
        return key

    def _made(self) -> Key:
        key = Key.new()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private_once(self.path_of(key.id), key.text + "\n")
        return key


def _chosen(name: str, text: str | None, command: str | None) -> Key | None:
    if text is None and command is None:
        return None
    source = name if text is not None else f"{name}_command"
    try:
        return Key.parse(text if text is not None else _printed(source, command or ""))
    except ValueError:
        raise MasterKeyUnavailable(
            f"What {source} gives is no key: 64 hexadecimal digits are expected, as 'openssl rand -hex 32' makes them."
        ) from None


def _printed(source: str, command: str) -> str:
    """What a command of the operator's prints."""
    try:
        done = subprocess.run(
            shlex.split(command),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
            env=dict(os.environ),
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise MasterKeyUnavailable(f"{source} could not be run ({type(error).__name__}); see the setting.") from error
    if done.returncode:
        log.error("the command for the master key failed", code=done.returncode, said=mask_secrets(done.stderr[-500:]))
        raise MasterKeyUnavailable(f"{source} ended with code {done.returncode}; the server's log has what it said.")
    return done.stdout
