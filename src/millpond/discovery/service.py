"""Search over all rooms."""

from collections.abc import Callable, Iterable, Sequence

from millpond.catalog.search import KINDS, MAX_FOUND, Found, Wanted
from millpond.catalog.service import CatalogService
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.paging import Page, decode_token, encode_token

Source = Callable[[Principal, Wanted, int], Iterable[Found]]
"""What a room finds, at most so many, that the principal may see."""

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


class DiscoveryService:
    """What one can find."""

    def __init__(self, catalog: CatalogService, sources: dict[str, Source]) -> None:
        """`sources` by the kind of what they find."""
        self._catalog = catalog
        self._sources = sources

    @property
    def kinds(self) -> Sequence[str]:
        """Kinds of objects that can be found."""
        return (*KINDS, *self._sources)

    def search(
        self, principal: Principal, wanted: Wanted, *, limit: int | None = None, page_token: str | None = None
    ) -> Page[Found]:
        """What fits, the best first; nothing for who looks for nothing. Raises InvalidArgument."""
        unknown = sorted(wanted.kinds - set(self.kinds))
        if unknown:
            raise InvalidArgument(
                f"There are no objects of type '{unknown[0][:40]}'; known are {', '.join(self.kinds)}."
            )
        if limit is not None and not 0 <= limit <= MAX_LIMIT:
            raise InvalidArgument(f"limit is {limit}; give 1 to {MAX_LIMIT}, or 0 for {DEFAULT_LIMIT}.")
        size, start = limit or DEFAULT_LIMIT, _start(page_token)
        end = min(start + size, MAX_FOUND)
        found = () if wanted.is_empty else self._best(principal, wanted, end + 1)
        more = len(found) > end and end < MAX_FOUND
        return Page(items=tuple(found[start:end]), next_page_token=encode_token(str(end)) if more else None)

    def _best(self, principal: Principal, wanted: Wanted, limit: int) -> Sequence[Found]:
        found = list(self._catalog.search(principal, wanted, limit=limit))
        for kind, source in self._sources.items():
            if wanted.takes(kind):
                found += source(principal, wanted, limit)
        return sorted(found, key=lambda each: each.rank)


def _start(page_token: str | None) -> int:
    text = decode_token(page_token) or "0"
    if not text.isdecimal() or int(text) > MAX_FOUND:
        raise InvalidArgument("page_token is not one that this server gave; start again without it.")
    return int(text)
