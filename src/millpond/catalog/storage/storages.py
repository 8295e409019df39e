"""From a location to its tree of files."""

from millpond.catalog import locations
from millpond.catalog.storage.local import LocalTree
from millpond.catalog.storage.port import FileTree
from millpond.kernel.settings import S3Settings


class ConfiguredStorages:
    """Local directories, and buckets with the credentials of the settings."""

    def __init__(self, s3: S3Settings) -> None:
        self._s3 = s3

    def tree(self, location: str, *, shown: str) -> FileTree:
        """See `Storages`."""
        if locations.is_local(location):
            return LocalTree(locations.local_path(location), shown=shown)
        from millpond.catalog.storage.s3 import S3Tree  # here, because boto3 is an extra and slow to import

        return S3Tree(location, self._s3, shown=shown)
