"""The tab that says who may do what to an object, and why: one for all kinds that have grants.

The question "why?" is in the address: `who` and `privilege`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.identity.access import Act, Securable, allows
from millpond.identity.domain import USERS, Principal, PrincipalKind
from millpond.identity.grants import Assignment, Change, Granted, unity_name
from millpond.identity.privileges import CONTAINERS, GRANTABLE, Privilege, levels, privilege_named
from millpond.identity.wire.access import explanation_json
from millpond.identity.wire.sentences import sentences
from millpond.kernel.errors import InvalidArgument, MillpondError
from millpond.ui import urls
from millpond.ui.elements import (
    CheckField,
    Facts,
    SelectField,
    Tab,
    badge,
    card,
    chip,
    el,
    empty_state,
    facts,
    link,
    notice,
    table,
)
from millpond.ui.forms import (
    Names,
    form,
    labelled,
    principal_field,
    principal_input,
    principal_names,
    reloading,
    submit,
    suggest,
)
from millpond.ui.visit import Visit

TAB = "permissions"
Give = Callable[[Principal, str], object]
"""Makes somebody the owner of the object."""


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """What the tab shows."""

    type: str
    """As `Services.finders` calls it."""
    name: str
    securable: Securable
    assignments: Sequence[Assignment]
    may_manage: bool
    names: Names
    answer: Sequence[str]
    """Why, or why not, in sentences; none where nothing was asked."""
    allowed: bool
    mistake: str
    """Why the question has no answer."""


def permissions_tab(visit: Visit) -> Tab:
    """The tab itself."""
    return Tab(key=TAB, label="Permissions", href=visit.link(tab=TAB, q=None, page=None))


def load_permissions(visit: Visit, kind: str, name: str) -> Permissions | None:
    """What the tab needs, when it is the open one. Raises NotFound."""
    if visit.query.get("tab") != TAB:
        return None
    find, grants, who = visit.services.finders[kind](name), visit.services.catalog.grants, visit.principal
    securable = grants.securable(who, find)
    may_manage = allows(who, Act.MANAGE, securable)
    answer: list[str] = []
    allowed, mistake = False, ""
    if visit.query.get("privilege"):
        try:
            asked = visit.query.get("who", "").strip() or who.name
            told = grants.explain(who, asked, privilege_named(visit.query["privilege"]), find)
            answer = sentences(explanation_json(told, visit.services.catalog.narrowed(told)))
            allowed = told.allowed
        except MillpondError as error:
            mistake = error.message
    return Permissions(
        type=kind, name=name, securable=securable, assignments=grants.granted(who, find, inherited=True),
        may_manage=may_manage, names=principal_names(visit) if may_manage else (), answer=answer, allowed=allowed,
        mistake=mistake,
    )  # fmt: skip


def draw_permissions(visit: Visit, data: Permissions, *, give: Give | None = None) -> None:
    """Draw the tab; `give` where the object's owner can be changed."""
    suggest(data.names)
    with el("div", cls="mp-stack"):
        _draw_owner(visit, data, give)
        if data.assignments:
            _draw_assignments(visit, data)
        else:
            _draw_nothing(data)
        if data.may_manage:
            _draw_grant(visit, data)
        _draw_why(visit, data)


def _draw_owner(visit: Visit, data: Permissions, give: Give | None) -> None:
    own, *others = data.securable.owners or ("",)
    around = ", ".join(dict.fromkeys(owner for owner in others if owner and owner != own))
    shown: Facts = [("Owner", own or "the workspace"), ("Owners of what contains it", around)]
    with card():
        facts(shown)
        note = "The owners may do all with it, and so may administrators, without a grant."
        el("p", note if data.may_manage else f"{note} You see the grants that concern you.", cls="mp-note")
        if give is not None and data.may_manage:
            _draw_new_owner(visit, give)


def _draw_new_owner(visit: Visit, give: Give) -> None:
    act = reloading(visit, lambda principal: give(principal, field.value.strip()))
    with el("details", cls="mp-disclosure"):
        el("summary", "Change the owner", cls="mp-link")
        with form(act, label="Change the owner"):
            with labelled("New owner"):
                field = principal_field("New owner")
            submit("Change owner")


def _draw_nothing(data: Permissions) -> None:
    kind = data.securable.kind
    if not data.may_manage:
        empty_state("No grant concerns you here", "Ask the owner for one, or an administrator.", symbol="lock_open")
        return
    who = "Everybody signed in sees it, and only" if data.securable.public else "Only"
    more = " do more." if data.securable.public else f" use this {kind}."
    code = f"GRANT {_first(kind).words} ON {kind.upper()} {data.name} TO `account users`"
    empty_state(
        "Nothing is granted here",
        f"{who} owners and administrators may{more} Grant a privilege to a user or a group below"
        + (", or in SQL:" if kind in CONTAINERS else "."),
        symbol="lock",
        code=code if kind in CONTAINERS else None,
        code_title="SQL",
    )


def _first(kind: str) -> Privilege:
    preferred = (Privilege.USE_CATALOG, Privilege.USE_SCHEMA, Privilege.SELECT, Privilege.READ_VOLUME)
    return next((each for each in preferred if each in GRANTABLE[kind]), Privilege.EXECUTE)


# The grants


def _draw_assignments(visit: Visit, data: Permissions) -> None:
    inherits = data.securable.kind in CONTAINERS
    heads = ["Who", "Granted here", *(["Inherited"] if inherits else []), ""]
    with table("Permissions", heads):
        for each in data.assignments:
            here = [granted for granted in each.granted if granted.on is data.securable or _is(granted.on, data)]
            with el("tr"):
                _draw_grantee(each)
                with el("td"), el("div", cls="mp-cell"):
                    for granted in here:
                        _draw_granted(visit, data, each, granted)
                if inherits:
                    with el("td"), el("div", cls="mp-cell"):
                        for granted in each.granted:
                            if granted not in here:
                                _draw_inherited(granted)
                with el("td"):
                    _draw_question(visit, data, each)


def _is(on: Securable, data: Permissions) -> bool:
    return on.ids[:1] == data.securable.ids[:1]


def _draw_grantee(assignment: Assignment) -> None:
    everybody = assignment.grantee == USERS
    with el("td"):
        with el("div", cls="mp-cell"):
            el("span", unity_name(assignment.grantee))
            badge("everybody" if everybody else assignment.kind.words)
        if not everybody and assignment.display_name != assignment.grantee:
            el("span", assignment.display_name, cls="mp-note")


def _draw_granted(visit: Visit, data: Permissions, assignment: Assignment, granted: Granted) -> None:
    change = Change(grantee=assignment.grantee, remove=frozenset({granted.privilege}))
    label = f"Revoke {granted.privilege.words} from {unity_name(assignment.grantee)}"
    chip(granted.privilege.words, reloading(visit, _changing(visit, data, change)) if data.may_manage else None, label)


def _draw_inherited(granted: Granted) -> None:
    with el("span", cls="mp-cell"):
        badge(granted.privilege.words)
        el("span", "from", cls="mp-note")
        if granted.on.kind in CONTAINERS:
            href = f"{urls.found_url(granted.on.kind, granted.on.name)}?tab={TAB}"
            link(f"{granted.on.kind} {granted.on.name}", href)
        else:
            el("span", f"{granted.on.kind} {granted.on.name}")


def _draw_question(visit: Visit, data: Permissions, assignment: Assignment) -> None:
    if assignment.kind is PrincipalKind.GROUP or not (data.may_manage or assignment.grantee == visit.principal.name):
        return  # a question is about somebody who can sign in
    href = visit.link(who=assignment.grantee, privilege=assignment.granted[0].privilege.value)
    link("Why?", f"{href}#why", cls="mp-link mp-nowrap", aria_label=f"Why has {assignment.grantee} this?")


def _changing(visit: Visit, data: Permissions, change: Change) -> Callable[[Principal], Any]:
    find = visit.services.finders[data.type](data.name)
    return lambda principal: visit.services.catalog.grants.change(principal, find, [change])


# Granting


def _draw_grant(visit: Visit, data: Permissions) -> None:
    act = reloading(visit, lambda principal: _grant(principal, visit, data, who.value, chosen()))
    with card("Grant"), form(act, label="Grant", cls="mp-stack"):
        with labelled("To"):
            who = principal_field("Grant to")
        chosen = _draw_levels(data) if levels(data.securable.kind) else _draw_boxes(data)
        with el("div", cls="mp-row"):
            submit("Grant")


def _draw_levels(data: Permissions) -> Callable[[], frozenset[Privilege]]:
    choices = [(level.value, level.words) for level in levels(data.securable.kind)]
    with labelled("Permission level"):
        field = SelectField(label="Permission level", choices=choices, value=choices[0][0])
    return lambda: frozenset({Privilege(field.value)})


def _draw_boxes(data: Permissions) -> Callable[[], frozenset[Privilege]]:
    with el("fieldset", cls="mp-checks"):
        el("legend", "Privileges")
        boxes = {each: CheckField(each.words) for each in sorted(GRANTABLE[data.securable.kind])}
    return lambda: frozenset(each for each, box in boxes.items() if box.checked)


def _grant(principal: Principal, visit: Visit, data: Permissions, who: str, chosen: frozenset[Privilege]) -> None:
    if not who.strip() or not chosen:
        raise InvalidArgument("Say to whom, and choose at least one privilege.")
    before = frozenset(levels(data.securable.kind)) - chosen  # of levels one has one
    _changing(visit, data, Change(grantee=who.strip(), add=chosen, remove=before))(principal)


# Why


def _draw_why(visit: Visit, data: Permissions) -> None:
    kind = data.securable.kind
    asked = visit.query.get("privilege", "")
    with el("section", cls="mp-card", id="why"):
        el("h2", "Why, or why not?")
        with el("form", cls="mp-row mp-form", method="get", action=f"{visit.link(tab=None).partition('?')[0]}#why"):
            el("input", type="hidden", name="tab", value=TAB)
            if data.may_manage:
                with labelled("Who"):
                    principal_input("Who", "who", visit.query.get("who", visit.principal.name))
            with (
                labelled("Privilege"),
                el("select", cls="mp-input mp-select", name="privilege", aria_label="Privilege"),
            ):
                for each in levels(kind) or sorted(GRANTABLE[kind]):
                    el("option", each.words, value=each.value, selected=True if each.value == asked else None)
            submit("Explain" if data.may_manage else "Explain for me")
        if data.mistake:
            notice(data.mistake, "bad", role="alert").style("margin-top: 14px")
        elif data.answer:
            notice("\n".join(data.answer), "good" if data.allowed else "warn", role="status").style("margin-top: 14px")
