"""Starting the relay that takes an engine's requests to the object store (`store_relay.py`)."""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from millpond.catalog import locations
from millpond.kernel.process import Child, ChildSpec, spawn

_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Relay:
    """A relay that listens, and what its engine needs to reach it."""

    child: Child
    way_out: tuple[str, str]
    """A Unix socket, and the port of the engine's loopback device that leads there."""
    variables: Mapping[str, str]
    """What the engine has in place of the store's address and key."""


def start_relay(
    store: Mapping[str, str], directory: Path, log_path: Path, *, readable: Iterable[str], writable: Iterable[str]
) -> Relay:
    """A relay with the access of `store` to what an engine may reach there. Blocks. Raises Unavailable."""
    reach = {"readable": _remote(readable), "writable": _remote(writable)}
    socket_path, secret = directory / "socket" / "store", secrets.token_hex(32)
    child = spawn(
        ChildSpec(
            module="millpond.engine.store_relay",
            args=(str(socket_path), json.dumps(reach)),
            env={**store, "MILLPOND_RELAY_SECRET": secret},
            log_path=log_path,
        )
    )
    port = str(child.wait_ready(_START_TIMEOUT_S)["port"])
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": store.get("AWS_REGION", "us-east-1"),
        "AWS_ACCESS_KEY_ID": secret,
        "AWS_SECRET_ACCESS_KEY": secret,
    }
    return Relay(child=child, way_out=(str(socket_path), port), variables=variables)


def _remote(places: Iterable[str]) -> list[str]:
    return [place for place in places if not locations.is_local(place)]
