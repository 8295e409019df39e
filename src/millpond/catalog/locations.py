"""Locations of files as URLs: one spelling for each place, and which place lies in which.

A location is `file:///...` or `s3://bucket/key` without a trailing slash, without `.` or `..`, in which equal places
are equal strings. Paths of volumes (`/Volumes/catalog/schema/volume/...`) are names, not locations: see `VolumePath`.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from millpond.catalog.names import ObjectName, check_text
from millpond.kernel.errors import InvalidArgument

MAX_LOCATION_LENGTH = 2000
_S3_SCHEMES = frozenset({"s3", "s3a", "s3n"})
_GLOB = re.compile(r"[*?\[\]{}]")
_VOLUME_PREFIX = re.compile(r"(?:dbfs:|file:(?=/Volumes/))?(?://(?=/))?(/Volumes(?:/.*)?)", re.DOTALL)


@dataclass(frozen=True)
class VolumePath:
    """A file or directory by the name of its volume."""

    volume: ObjectName
    parts: tuple[str, ...]
    """Below the volume; empty for the volume itself."""

    def __str__(self) -> str:
        name = self.volume
        return "/".join(("", "Volumes", name.catalog, name.schema, name.name, *self.parts))


def canonical(url: str) -> str:
    """The one spelling of a location.

    Raises InvalidArgument for a scheme that we cannot read and for a path that climbs or is not absolute.
    """
    check_text(url, "The location")
    if len(url) > MAX_LOCATION_LENGTH:
        raise InvalidArgument(f"The location has {len(url)} characters; at most {MAX_LOCATION_LENGTH}.")
    if url.startswith("/"):
        return _file_location(url)
    scheme = url.partition(":")[0].lower()
    if scheme == "file":
        return _file_location(_path_of_file_url(url))
    if scheme in _S3_SCHEMES and "://" in url:
        return _s3_location(url)
    raise InvalidArgument(f"The location '{url[:200]}' is not an absolute path, a file:/// URL or an s3:// URL.")


def local_path(location: str) -> Path:
    """The path of a `file:///` location."""
    return Path(_path_of_file_url(location))


def is_local(location: str) -> bool:
    """Whether it lies on this machine's disk."""
    return location.startswith("file:")


def is_link(location: str) -> bool:
    """Whether a place on this machine's disk is itself a symbolic link, so that it may lead elsewhere at any time."""
    return is_local(location) and local_path(location).is_symlink()


def join(location: str, *parts: str) -> str:
    """The location below another, each part one plain name."""
    if is_local(location):
        return _file_uri(local_path(location).joinpath(*parts))
    return "/".join((location, *parts))


def lies_in(location: str, container: str) -> bool:
    """Whether a location is the container or below it."""
    return location == container or location.startswith(container.rstrip("/") + "/")


def overlap(one: str, other: str) -> bool:
    """Whether one lies in the other."""
    return lies_in(one, other) or lies_in(other, one)


def with_ancestors(location: str) -> list[str]:
    """The location and every location that it lies in, innermost first."""
    found = [location]
    scheme_end = location.index("://") + 3
    while (cut := location.rfind("/")) > scheme_end:
        location = location[:cut]
        found.append(location)
    return found


def without_glob(location: str) -> str:
    """The deepest directory that a pattern such as `/data/*.csv` cannot leave."""
    if not is_local(location):
        segments = location.split("/")
        kept = next((i for i, part in enumerate(segments) if _GLOB.search(part)), len(segments))
        return "/".join(segments[: max(kept, 3)])
    parts = local_path(location).parts
    kept = next((i for i, part in enumerate(parts) if _GLOB.search(part)), len(parts))
    return _file_uri(Path(*parts[:kept]))


def find_volume_path(text: str) -> VolumePath | None:
    """The volume path of `/Volumes/c/s/v/...` (also with `dbfs:` before it); None when it is something else.

    Raises InvalidArgument for a volume path that names no volume or climbs out of it.
    """
    match = _VOLUME_PREFIX.fullmatch(text)
    if match is None:
        return None
    check_text(text, "The path")
    parts = match[1].split("/")[2:]
    if len(parts) < 3 or not all(parts[:3]):
        raise InvalidArgument(f"The path '{text[:200]}' names no volume; it must be /Volumes/catalog/schema/volume/...")
    below = check_parts([part for part in parts[3:] if part], text)
    return VolumePath(ObjectName(*parts[:3]), below)


def check_parts(parts: list[str], text: str) -> tuple[str, ...]:
    """Path segments that stay where they are.

    Raises InvalidArgument for `.` and `..`, control characters and segments that no file system takes.
    """
    for part in parts:
        if part in {".", ".."}:
            raise InvalidArgument(f"The path '{text[:200]}' holds '{part}'; write it without.")
        if any(ord(c) < 0x20 or ord(c) == 0x7F for c in part):
            raise InvalidArgument(f"The path {text[:200]!r} holds a control character.")
        if "\\" in part:
            raise InvalidArgument(f"The path '{text[:200]}' holds a backslash; separate with '/'.")
        if len(part.encode()) > 255:
            raise InvalidArgument(f"A segment of the path '{text[:80]}…' is longer than 255 bytes.")
    return tuple(parts)


def _file_uri(path: Path) -> str:
    """The URL of a path. Characters that patterns and partitions need stay as they are, since engines look for them."""
    return "file://" + quote(str(path), safe="/*[]{}=+@:,;!$&'()~")


def _path_of_file_url(url: str) -> str:
    split = urlsplit(url)
    if split.netloc not in {"", "localhost"} or split.query or split.fragment:
        raise InvalidArgument(f"The location '{url[:200]}' is not a local file URL; write file:///path.")
    return check_text(unquote(split.path, errors="strict"), "The location")


def _file_location(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidArgument(f"The path '{path[:200]}' is not absolute.")
    parts = check_parts([part for part in path.split("/") if part], path)
    return _file_uri(Path("/", *parts))


def _s3_location(url: str) -> str:
    _, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise InvalidArgument(f"The location '{url[:200]}' names no valid bucket; write s3://bucket/path.")
    parts = check_parts([part for part in key.split("/") if part], url)
    return "/".join((f"s3://{bucket}", *PurePosixPath(*parts).parts)) if parts else f"s3://{bucket}"
