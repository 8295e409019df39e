"""`dbutils.secrets`: values that are there for the code, and kept out of what it prints."""

import base64
from collections.abc import Callable
from typing import NamedTuple

from millpond.sdk.dbutils.api import Api

_API = "/api/2.0/secrets"


class SecretMetadata(NamedTuple):
    """A secret without its value."""

    key: str


class SecretScope(NamedTuple):
    """A scope."""

    name: str


class Secrets:
    """What whoever the task runs as may read."""

    def __init__(self, api: Api, seen: Callable[[str], None]) -> None:
        self._api = api
        self._seen = seen

    def get(self, scope: str, key: str) -> str:
        """A value. Raises FileNotFoundError, PermissionError, UnicodeDecodeError for one that is no text."""
        return self.getBytes(scope, key).decode()

    def getBytes(self, scope: str, key: str) -> bytes:
        """A value as it was put. Raises FileNotFoundError, PermissionError."""
        value = base64.b64decode(self._api.ask(f"{_API}/get", scope=scope, key=key)["value"])
        self._seen(value.decode("utf-8", "surrogateescape"))
        return value

    def list(self, scope: str) -> list[SecretMetadata]:
        """The keys of a scope."""
        return [SecretMetadata(each["key"]) for each in self._api.ask(f"{_API}/list", scope=scope).get("secrets", ())]

    def listScopes(self) -> "list[SecretScope]":  # type: ignore[valid-type]  # the builtin, not the method above
        """The scopes that one may see."""
        return [SecretScope(each["name"]) for each in self._api.ask(f"{_API}/scopes/list").get("scopes", ())]
