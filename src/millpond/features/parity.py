"""Parity checks from the user's side: is a model given in serving what it was given in training? Ours alone."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from millpond.features.connection import Connection

_CHECKS = "/api/millpond/parity-checks"
_POLL_S = 0.5
_UNDER_WAY = ("queued", "running")


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What a check found."""

    id: str
    passed: bool
    message: str
    features: tuple[Mapping[str, Any], ...]
    """For each feature its counts, both sources, and under `mismatches` the first keys with both values."""
    sources: tuple[Mapping[str, Any], ...]
    """For each feature table its version, where it is online, and how far that is behind."""
    has_values: bool
    """Whether keys and values are shown: to who may read all of the tables."""


class ParityChecks:
    """The part of the client that has to do with parity."""

    _connection: Connection

    def check_parity(
        self,
        *,
        model_uri: str | None = None,
        feature_spec: str | None = None,
        keys: str | None = None,
        sample: int = 200,
        tolerance: float = 0.0,
        tolerances: Mapping[str, float] | None = None,
        max_mismatches: int = 0,
        timeout_s: float = 600.0,
    ) -> Parity:
        """Replay keys through the path of training and that of serving, on the server, and compare value by value.

        `keys` names a table of requests; without one, keys of the feature tables are sampled, and some that are not
        there. Raises ValueError, RuntimeError when it could not be carried out, TimeoutError.
        """
        if (model_uri is None) == (feature_spec is None):
            raise ValueError("Give either model_uri or feature_spec.")
        subject = model_uri or self._connection.full_name(str(feature_spec))
        body = {
            "subject": subject,
            "keys": None if keys is None else self._connection.full_name(keys),
            "sample": sample,
            "tolerance": tolerance,
            "tolerances": dict(tolerances or {}),
            "max_mismatches": max_mismatches,
        }
        check = self._connection.post(_CHECKS, body)["check"]
        deadline = time.monotonic() + timeout_s
        while check["state"] in _UNDER_WAY:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Parity check {check['id']} of {subject} still works after {timeout_s:g} s.")
            time.sleep(_POLL_S)
            check = (self._connection.get(f"{_CHECKS}/{quote(check['id'])}") or {})["check"]
        if check["state"] == "error":
            raise RuntimeError((check["report"] or {}).get("problem") or check["message"])
        report = check["report"]
        return Parity(
            id=check["id"],
            passed=check["state"] == "passed",
            message=check["message"],
            features=tuple(report["features"]),
            sources=tuple(report["sources"]),
            has_values=check["has_values"],
        )
