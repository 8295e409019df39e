"""The form that narrows what a page finds, and what it then asks for; its address is the state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from millpond.catalog.search import Wanted
from millpond.ui.elements import SelectField, button_link, el, query_field
from millpond.ui.forms import labelled, submit
from millpond.ui.tags import MARKS

_LONGEST = 400


def wanted_of(query: Mapping[str, str]) -> Wanted:
    """What a page's address asks for."""
    return Wanted(
        text=query.get("q", "")[:_LONGEST],
        kinds=frozenset(filter(None, [query.get("type", "")])),
        tag=query.get("tag", "").strip(),
        owner=query.get("owner", "").strip(),
        certification=query.get("certified", ""),
    )


@contextmanager
def filter_form(query: Mapping[str, str], *, label: str, verb: str, url: str, hint: str = "") -> Iterator[None]:
    """The form, with fields of the page's own in the block. `url` is the page's without any filter."""
    with el("form", cls="mp-row mp-form mp-filters", method="get", role="search", aria_label=label):
        with labelled("Words"):
            query_field("q", "Words", query.get("q", ""), hint)
        yield
        with labelled("Tag"):
            query_field("tag", "Tag", query.get("tag", ""), "key or key=value")
        with labelled("Owner"):
            query_field("owner", "Owner", query.get("owner", ""))
        with labelled("Mark"):
            SelectField(label="Mark", choices=MARKS, value=query.get("certified", ""), name="certified")
        submit(verb)
        if any(query.values()):
            button_link("Clear", url)
