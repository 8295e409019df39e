"""The colours keep WCAG's contrast, in light and in dark."""

from collections.abc import Mapping

import pytest

from millpond.ui.theme import DARK, LIGHT, QUASAR_COLOURS, stylesheet

THEMES = {"light": LIGHT, "dark": DARK}
SURFACES = ("bg", "surface", "sunken", "hover")
TONES = ("good", "warn", "bad", "info")


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`. Source: WCAG 2.2, "relative luminance"."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio. Source: WCAG 2.2, "contrast ratio"."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("name", THEMES)
def test_text_is_readable_on_every_surface(name: str) -> None:
    tokens = THEMES[name]
    for text in ("text", "muted", "faint", "accent-text"):
        for surface in SURFACES:
            assert contrast(tokens[text], tokens[surface]) >= 4.5, (text, surface)


@pytest.mark.parametrize("name", THEMES)
def test_marks_are_readable_on_their_own_ground(name: str) -> None:
    tokens = THEMES[name]
    pairs = [(tone, f"{tone}-soft") for tone in TONES]
    pairs += [("accent-text", "accent-soft"), ("on-accent", "accent"), ("on-accent", "accent-hover"), ("muted", "line")]
    for text, ground in pairs:
        assert contrast(tokens[text], tokens[ground]) >= 4.5, (text, ground)


@pytest.mark.parametrize("name", THEMES)
def test_controls_and_focus_stand_out_from_what_is_around_them(name: str) -> None:
    tokens = THEMES[name]
    for mark in ("control", "accent"):
        for surface in SURFACES:
            assert contrast(tokens[mark], tokens[surface]) >= 3, (mark, surface)


def test_both_themes_have_the_same_tokens() -> None:
    assert LIGHT.keys() == DARK.keys()


def test_a_choice_wins_over_the_system() -> None:
    style = stylesheet()
    assert ":root:not([data-theme=light])" in style
    assert ":root[data-theme=dark]" in style


def as_css(tokens: Mapping[str, str]) -> list[str]:
    """The declarations of tokens."""
    return [f"--mp-{name}: {value};" for name, value in tokens.items()]


def test_the_style_sheet_holds_every_token() -> None:
    style = stylesheet()
    assert all(line in style for tokens in THEMES.values() for line in as_css(tokens))


def test_notifications_are_readable() -> None:
    for name in ("primary", "positive", "negative", "warning", "info"):
        assert contrast("#ffffff", QUASAR_COLOURS[name]) >= 4.5, name
