"""Histograms and frequent values, drawn with plain elements: in the page's own colours, light and dark."""

from collections.abc import Sequence

from millpond.feature_tables.queries import Kind
from millpond.feature_tables.statistics import Counted, Distribution
from millpond.ui.elements import el, notice

_SERIES = ("mp-now", "mp-before")


def draw_bars(found: Distribution) -> None:
    """How values are spread in one version, or two beside one another, in percent of the values of each."""
    if found.kind is Kind.NESTED:
        notice("Nested values and bytes are counted, and no more.")
        return
    if not any(sum(each.counts) for each in found.versions):
        notice("There are no values to show.")
        return
    if len(found.versions) > 1:
        _draw_legend(found.versions)
    (_draw_frequencies if found.kind is Kind.TEXT else _draw_histogram)(found)


def _draw_legend(versions: Sequence[Counted]) -> None:
    with el("div", cls="mp-row mp-legend"):
        for each, series in zip(versions, _SERIES, strict=True):
            el("span", f"Version {each.version}", cls=series)


def _draw_histogram(found: Distribution) -> None:
    percents = [_percents(each) for each in found.versions]
    highest = max(max(each[:-1]) for each in percents)
    with el("figure", cls="mp-histogram"):
        with el("div", role="img", aria_label=f"Histogram of {found.column}: {_told(found, percents)}"):
            for at, label in enumerate(found.labels):
                told = ", ".join(f"{each[at]:.3g} %" for each in percents)
                with el("div", title=f"{label}: {told}"):
                    for each, series in zip(percents, _SERIES, strict=False):
                        el("span", cls=series).style(f"height: {100 * each[at] / highest:.1f}%")
        with el("figcaption"):
            shown = (0, len(found.labels) // 2, len(found.labels) - 1)
            for at in sorted(set(shown)):
                el("span", found.labels[at])


def _told(found: Distribution, percents: Sequence[Sequence[float]]) -> str:
    """The histogram in words: its fullest bin."""
    first = percents[0][:-1]
    at = first.index(max(first))
    return f"most values, {first[at]:.3g} %, are at {found.labels[at]}"


def _draw_frequencies(found: Distribution) -> None:
    percents = [_percents(each) for each in found.versions]
    with el("dl", cls="mp-frequencies", aria_label=f"Most frequent values of {found.column}"):
        others = ["all others"] if any(each.others for each in found.versions) else []
        for at, label in enumerate([*found.labels, *others]):
            el("dt", label or "(empty)", title=label, cls="" if at < len(found.labels) else "mp-muted")
            with el("dd"):
                for each, series in zip(percents, _SERIES, strict=False):
                    with el("div"):
                        el("span", cls=series).style(f"width: {each[at]:.1f}%")
                        el("span", f"{each[at]:.3g} %", cls="mp-note")


def _percents(counted: Counted) -> Sequence[float]:
    """Of all values, the counts and, last, what is in none of them."""
    total = sum(counted.counts) + counted.others
    return [100 * count / total if total else 0.0 for count in (*counted.counts, counted.others)]
