"""Files behind the catalog: a port with two implementations, the local disk and S3."""

from typing import Protocol


class Storages(Protocol):
    """Finds the storage of a location."""
