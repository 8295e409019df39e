"""Files behind the catalog: one port, with an implementation for the local disk and one for S3."""

from millpond.catalog.storage.port import Entry, FileStatus, FileTree, Listing, Storages, Writer
from millpond.catalog.storage.storages import ConfiguredStorages

__all__ = ["ConfiguredStorages", "Entry", "FileStatus", "FileTree", "Listing", "Storages", "Writer"]
