"""What pages ask of tables and of model files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from millpond.catalog.domain import ObjectName
from millpond.identity.domain import Principal

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One entry of a table's history."""

    version: int
    timestamp_ms: int
    user: str
    operation: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What a table's log says about its size."""

    version: int
    size_bytes: int
    files: int
    partition_columns: tuple[str, ...]
    reader_version: int
    writer_version: int


class TableReader(Protocol):
    """Rows, history and size of tables, for a principal who may read them."""

    def preview(self, principal: Principal, name: ObjectName, *, limit: int) -> "pa.Table":
        """The first rows of a table or view. Raises NotFound, PermissionDenied, Unavailable."""

    def history(self, principal: Principal, name: ObjectName, *, limit: int) -> Sequence[Commit]:
        """A table's commits, newest first."""

    def detail(self, principal: Principal, name: ObjectName) -> Detail:
        """A table's size and protocol."""


class ModelFiles(Protocol):
    """Files of model versions."""

    def read(self, principal: Principal, name: str, version: str, path: str, *, max_bytes: int) -> bytes:
        """A small file of a version that the principal may read. Raises NotFound, InvalidArgument when larger."""
