"""Design tokens: every colour of the pages, for light and for dark.

The pairs that carry text keep WCAG AA (4.5:1), borders of controls 3:1: `tests/ui/test_theme.py` computes them.
"""

from collections.abc import Mapping
from enum import StrEnum


class Theme(StrEnum):
    """What somebody chose; AUTO follows the system."""

    AUTO = "auto"
    LIGHT = "light"
    DARK = "dark"


LIGHT: Mapping[str, str] = {
    "bg": "#f5f7f7",
    "surface": "#ffffff",
    "sunken": "#eef2f2",
    "hover": "#f0f5f4",
    "line": "#dfe6e5",
    "control": "#7c8b8a",
    "text": "#14211f",
    "muted": "#4f5f5d",
    "faint": "#5f6e6c",
    "accent": "#0b6b70",
    "accent-hover": "#08565a",
    "on-accent": "#ffffff",
    "accent-soft": "#dff0ef",
    "accent-text": "#08606a",
    "good": "#17683c",
    "good-soft": "#e1f3e8",
    "warn": "#7d5200",
    "warn-soft": "#faf0d7",
    "bad": "#a8231b",
    "bad-soft": "#fce9e7",
    "info": "#1b5796",
    "info-soft": "#e5eefa",
    "shadow": "rgb(20 40 38 / 12%)",
}

DARK: Mapping[str, str] = {
    "bg": "#0d1314",
    "surface": "#141c1d",
    "sunken": "#0f1617",
    "hover": "#1a2425",
    "line": "#253132",
    "control": "#6d7f80",
    "text": "#e4eceb",
    "muted": "#a6b5b4",
    "faint": "#93a3a2",
    "accent": "#4fbfbc",
    "accent-hover": "#6bd0cc",
    "on-accent": "#04201f",
    "accent-soft": "#12302f",
    "accent-text": "#73d3cf",
    "good": "#74cf9a",
    "good-soft": "#12301f",
    "warn": "#e2b660",
    "warn-soft": "#33280f",
    "bad": "#f2938b",
    "bad-soft": "#3a1b18",
    "info": "#90bbf2",
    "info-soft": "#15283f",
    "shadow": "rgb(0 0 0 / 45%)",
}


def stylesheet() -> str:
    """The tokens as CSS custom properties; `data-theme` on the root element chooses, else the system does."""
    light = _declarations(LIGHT, "light")
    dark = _declarations(DARK, "dark")
    return (
        f":root {{\n{light}}}\n"
        f"@media (prefers-color-scheme: dark) {{\n:root:not([data-theme=light]) {{\n{dark}}}\n}}\n"
        f":root[data-theme=dark] {{\n{dark}}}\n"
    )


def _declarations(tokens: Mapping[str, str], scheme: str) -> str:
    lines = "".join(f"  --mp-{name}: {value};\n" for name, value in tokens.items())
    return f"  color-scheme: {scheme};\n{lines}"


QUASAR_COLOURS: Mapping[str, str] = {
    "primary": LIGHT["accent"],
    "positive": LIGHT["good"],
    "negative": LIGHT["bad"],
    "warning": LIGHT["warn"],
    "info": LIGHT["info"],
    "dark": DARK["surface"],
    "dark-page": DARK["bg"],
}
"""For the notifications, which Quasar draws with white text."""

LOGO = (
    '<svg viewBox="0 0 24 24" width="24" height="24" fill="none" stroke="currentColor" stroke-width="1.9" '
    'stroke-linecap="round" aria-hidden="true"><circle cx="12" cy="7.2" r="3.1" fill="currentColor" stroke="none"/>'
    '<path d="M2.5 14.2c1.6 0 1.6 1.5 3.2 1.5s1.6-1.5 3.2-1.5 1.6 1.5 3.1 1.5 1.6-1.5 3.2-1.5 1.6 1.5 3.2 1.5 '
    '1.6-1.5 3.1-1.5"/><path d="M5.8 19c1.5 0 1.5 1.3 3.1 1.3S10.5 19 12 19s1.6 1.3 3.1 1.3 1.6-1.3 3.1-1.3" '
    'opacity=".65"/></svg>'
)
"""A disc over still water."""

FAVICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='#0b8b8f' stroke-width='2' "
    "stroke-linecap='round'><circle cx='12' cy='7.2' r='3.4' fill='#0b8b8f' stroke='none'/>"
    "<path d='M2.5 14.2c1.6 0 1.6 1.5 3.2 1.5s1.6-1.5 3.2-1.5 1.6 1.5 3.1 1.5 1.6-1.5 3.2-1.5 1.6 1.5 "
    "3.2 1.5 1.6-1.5 3.1-1.5'/><path d='M5.8 19.3c1.5 0 1.5 1.3 3.1 1.3s1.6-1.3 "
    "3.1-1.3 1.6 1.3 3.1 1.3 1.6-1.3 3.1-1.3'/></svg>"
)

CHART_COLOURS: Mapping[Theme, tuple[str, str, str]] = {
    Theme.LIGHT: (LIGHT["accent"], LIGHT["muted"], LIGHT["line"]),
    Theme.DARK: (DARK["accent"], DARK["muted"], DARK["line"]),
    Theme.AUTO: (DARK["accent"], LIGHT["control"], LIGHT["control"]),  # a canvas is told colours once, for both
}
"""Accent, text and lines of a chart."""
SERIES_COLOURS = ("#1f9a95", "#c27c1f", "#7a6fd6", "#c4557d", "#5c9440", "#4383cc")
"""Lines of one chart, to be told apart on light and on dark ground."""
