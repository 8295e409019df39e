"""What serving tells of each request to whoever keeps inference tables, and what it asks of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, NotImplementedHere


@dataclass(frozen=True, kw_only=True)
class AutoCapture:
    """Where the requests of a configuration are kept."""

    catalog: str
    schema: str
    prefix: str
    enabled: bool
    table_id: str = ""
    """Of the inference table, once it is made."""
    labels_id: str = ""
    """Of the table of labels beside it, in the catalog."""
    writer: str = ""
    """Who turned it on: with whose rights rows are written."""

    @property
    def place(self) -> tuple[str, str, str]:
        """What cannot be changed while it is enabled."""
        return self.catalog, self.schema, self.prefix


@dataclass(frozen=True, kw_only=True)
class CaptureRequest:
    """The same as a client asks for it; None stays as it is."""

    catalog: str | None
    schema: str | None
    prefix: str | None
    enabled: bool


@dataclass(frozen=True, kw_only=True)
class CaptureState:
    """How an inference table is doing. Source: databricks-sdk, PayloadTable."""

    name: str
    status: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came."""

    id: str
    """By which its row, its labels and the audit know it."""
    client_id: str | None
    """What the client calls it in a header; it may stand in the body instead."""
    requester: str
    content_type: str
    body: bytes
    time_ms: int
    is_direct: bool
    """Whether it named the served entity itself, past the traffic split."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What became of it."""

    entity: str
    model: str
    version: str
    config_version: int
    status: int
    body: bytes
    seconds: float
    queue_s: float = 0.0
    features_s: float = 0.0
    model_s: float = 0.0
    features: bytes = b""
    """The columns that were looked up and given to the model, as `serving.columns` writes them."""


class Captures(Protocol):
    """Inference tables."""

    def prepare(self, principal: Principal, endpoint: str, wanted: AutoCapture) -> AutoCapture:
        """Make the tables, or find those that are there, before the configuration is. Blocks.

        Raises NotFound, PermissionDenied, AlreadyExists, InvalidArgument.
        """

    def attach(
        self, connection: Connection, principal: Principal, endpoint: tuple[str, str], kept: AutoCapture
    ) -> None:
        """An endpoint (id and name) is to write there; in the transaction of its configuration."""

    def detach(self, connection: Connection, endpoint_id: str) -> None:
        """An endpoint is gone, in the transaction that deletes it."""

    def states(self, table_ids: Sequence[str]) -> dict[str, CaptureState]:
        """How some inference tables are doing. Blocks."""

    def check_room(self, kept: AutoCapture) -> None:
        """Pass if a request can be kept. Raises StorageFull."""

    async def record(self, kept: AutoCapture, asked: Asked, answered: Answered) -> None:
        """Keep a request and its answer; when this returns, it will be in the table. Raises StorageFull."""


class NoCaptures:
    """Where there are no inference tables."""

    def prepare(self, _principal: Principal, _endpoint: str, _wanted: AutoCapture) -> AutoCapture:
        """Refuses."""
        raise NotImplementedHere("auto_capture_config is not supported by this Millpond; leave it out.")

    def attach(
        self, _connection: Connection, _principal: Principal, _endpoint: tuple[str, str], _kept: AutoCapture
    ) -> None:
        """Has nothing to note."""

    def detach(self, _connection: Connection, _endpoint_id: str) -> None:
        """Has nothing to note."""

    def states(self, _table_ids: Sequence[str]) -> dict[str, CaptureState]:
        """None."""
        return {}

    def check_room(self, _kept: AutoCapture) -> None:
        """Passes."""

    async def record(self, _kept: AutoCapture, _asked: Asked, _answered: Answered) -> None:
        """Keeps nothing."""


def prepared(
    captures: Captures, principal: Principal, endpoint: str, base: AutoCapture | None, wanted: CaptureRequest | None
) -> AutoCapture | None:
    """The capture of the next configuration, with its tables. Blocks. Raises as `Captures.prepare`."""
    capture = _next(base, wanted, endpoint)
    return captures.prepare(principal, endpoint, capture) if capture is not None and capture.enabled else capture


def attach(
    captures: Captures,
    connection: Connection,
    principal: Principal,
    endpoint: tuple[str, str],
    capture: AutoCapture | None,
) -> None:
    """An endpoint (id and name) has a new configuration, with this capture."""
    if capture is not None and capture.enabled:
        captures.attach(connection, principal, endpoint, capture)


def _next(base: AutoCapture | None, wanted: CaptureRequest | None, endpoint: str) -> AutoCapture | None:
    """The capture of the next configuration; what is left out stays. Raises InvalidArgument.

    Source: databricks-sdk, AutoCaptureConfigInput: names cannot be changed while the table is enabled.
    """
    if wanted is None:
        return base
    given = (wanted.catalog, wanted.schema, wanted.prefix)
    if base is not None and all(new in {None, old} for new, old in zip(given, base.place, strict=True)):
        return replace(base, enabled=wanted.enabled)
    if not wanted.enabled and base is None:
        return None
    if base is not None and base.enabled:
        raise InvalidArgument(
            f"Endpoint '{endpoint}' writes to {'.'.join(base.place)}_payload, which cannot be changed while it is "
            "enabled; disable auto_capture_config first."
        )
    if wanted.catalog is None or wanted.schema is None:
        raise InvalidArgument("auto_capture_config needs catalog_name and schema_name.")
    return AutoCapture(
        catalog=wanted.catalog, schema=wanted.schema, prefix=wanted.prefix or endpoint, enabled=wanted.enabled
    )
