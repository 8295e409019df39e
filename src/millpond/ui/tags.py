"""Tags and marks on the pages of objects: shown to all who see the object, changed by who may tag it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from millpond.catalog.tags import CERTIFICATION, CERTIFIED, DEPRECATED
from millpond.identity.access import Act, Securable, allows
from millpond.identity.domain import Principal
from millpond.ui.elements import SelectField, TextField, Tone, badge, button, chip, el
from millpond.ui.forms import Act as Handler
from millpond.ui.forms import form, labelled, reloading, submit
from millpond.ui.visit import Visit

_POLICIES = "mp-tag-keys"
MARKS = (("", "Any"), (CERTIFIED, "Certified"), (DEPRECATED, "Deprecated"))
"""To choose from in a search."""
_TONES: Mapping[str, Tone] = {CERTIFIED: "good", DEPRECATED: "bad"}


@dataclass(frozen=True, kw_only=True)
class Tags:
    """Tags of an object, and what whoever looks may do about them."""

    kind: str
    name: str
    tags: Mapping[str, str]
    may_tag: bool
    may_mark: bool
    governed: tuple[str, ...] = ()
    """Keys to suggest."""
    columns: tuple[str, ...] = ()
    """Of a table, which can have tags too."""


def load_tags(visit: Visit, kind: str, securable: Securable, *, columns: tuple[str, ...] = ()) -> Tags:
    """The tags of an object that whoever looks may see."""
    who, catalog = visit.principal, visit.services.catalog
    found = catalog.tags_on(who, kind, securable.name)
    may_tag = allows(who, Act.TAG, securable)
    policies = catalog.list_tag_policies(who).items if may_tag else ()
    return Tags(
        kind=kind,
        name=securable.name,
        tags={tag.key: tag.value for tag in found},
        may_tag=may_tag,
        may_mark=any(policy.key == CERTIFICATION and allows(who, Act.TAG, policy.securable) for policy in policies),
        governed=tuple(policy.key for policy in policies if not policy.is_system),
        columns=columns,
    )


def mark_badges(certification: str) -> tuple[tuple[str, Tone], ...]:
    """The badge of a certified or deprecated object."""
    return ((certification, _TONES[certification]),) if certification in _TONES else ()


def tag_badges(tags: Mapping[str, str]) -> tuple[tuple[str, Tone], ...]:
    """Badges of tags other than the mark."""
    return tuple((tag_text(key, value), "plain") for key, value in sorted(tags.items()) if key != CERTIFICATION)


def tag_text(key: str, value: str) -> str:
    """A tag in few characters."""
    return f"{key}: {value}" if value else key


def draw_tags(visit: Visit, data: Tags) -> None:
    """The mark, the tags, and the controls to change them."""
    with el("div", cls="mp-row mp-tags", role="group", aria_label="Tags"):
        for text, tone in mark_badges(data.tags.get(CERTIFICATION, "")):
            badge(text, tone)
        for key, value in sorted(data.tags.items()):
            if key != CERTIFICATION:
                remove = _removing(visit, data, key) if data.may_tag else None
                chip(tag_text(key, value), remove, f"Remove tag {key}", tone="plain")
        if data.may_tag:
            with el("details", cls="mp-tag-edit"):
                el("summary", "Edit tags", cls="mp-link")
                _draw_form(visit, data)


def _draw_form(visit: Visit, data: Tags) -> None:
    column: SelectField | None = None

    def add(who: Principal) -> None:
        _set(visit, data, key.value.strip(), value.value.strip(), who, column=column.value if column else "")

    def remove(who: Principal) -> None:
        place = _place(data, column.value if column else "")
        visit.services.catalog.unset_tags(who, *place, [key.value.strip()])

    with form(reloading(visit, add), label="Add a tag"):
        if data.columns:
            choices = [("", "The table"), *((name, name) for name in data.columns)]
            with labelled("On"):
                column = SelectField(label="On", choices=choices, value="")
        with labelled("Tag"):
            key = TextField(label="Tag", maxlength="255", list=_POLICIES)
        with labelled("Value"):
            value = TextField(label="Value", maxlength="1000")
        with el("datalist", id=_POLICIES):
            for each in data.governed:
                el("option", value=each)
        submit("Add tag")
        if data.columns:  # whose tags have no cross to remove them
            button("Remove tag", reloading(visit, remove))
    if data.may_mark:
        _draw_marks(visit, data)


def _draw_marks(visit: Visit, data: Tags) -> None:
    with el("div", cls="mp-row"):
        for status in (CERTIFIED, DEPRECATED):
            if data.tags.get(CERTIFICATION) != status:
                button(f"Mark as {status}", reloading(visit, partial(_set, visit, data, CERTIFICATION, status)))
        if CERTIFICATION in data.tags:
            button("Remove the mark", _removing(visit, data, CERTIFICATION))


def _set(visit: Visit, data: Tags, key: str, value: str, who: Principal, *, column: str = "") -> None:
    visit.services.catalog.set_tags(who, *_place(data, column), {key: value})


def _place(data: Tags, column: str) -> tuple[str, str]:
    """Kind and name of the object, or of a column of it."""
    return ("column", f"{data.name}.{column}") if column else (data.kind, data.name)


def _removing(visit: Visit, data: Tags, key: str) -> Handler:
    return reloading(visit, lambda who: visit.services.catalog.unset_tags(who, data.kind, data.name, [key]))
