"""Users, service principals and groups: all of them for administrators, oneself for everybody else."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from millpond.identity.access import require_admin
from millpond.identity.directory import Listing
from millpond.identity.domain import ADMINS, USERS, Account, Draft, Entry, Principal, PrincipalKind, Related
from millpond.identity.filters import Compare, Comparison, Either, Filter
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    Tab,
    TableColumn,
    TextField,
    Tone,
    badge,
    button,
    card,
    chip,
    el,
    empty_state,
    facts,
    filter_form,
    link,
    page_header,
    pager,
    tabs,
)
from millpond.ui.forms import (
    Names,
    ask_first,
    form,
    labelled,
    principal_field,
    principal_names,
    reloading,
    submit,
    suggest,
)
from millpond.ui.visit import Page, Visit

_PAGE = 50
_MEMBERS = 500
"""So many members of a group are drawn, each with a button."""
_KINDS = {
    "users": (PrincipalKind.USER, "Users", "person"),
    "groups": (PrincipalKind.GROUP, "Groups", "group"),
    "programs": (PrincipalKind.SERVICE_PRINCIPAL, "Service principals", "smart_toy"),
}
_NAMES = {
    PrincipalKind.USER: "username",
    PrincipalKind.GROUP: "displayname",
    PrincipalKind.SERVICE_PRINCIPAL: "applicationid",
}


# The list


@dataclass(frozen=True, kw_only=True)
class _List:
    found: Listing | None
    """None for who is no administrator."""
    me: Entry


def _load_list(visit: Visit) -> _List:
    directory, who = visit.services.directory, visit.principal
    me = directory.get(who, None, who.id)
    if not who.is_admin:
        return _List(found=None, me=me)
    kind = _kind(visit)[0]
    page = visit.query.get("page", "")
    start = int(page) if page.isascii() and page.isdecimal() and len(page) < 9 else 1
    wanted = _wanted(kind, visit.query.get("q", "").strip())
    return _List(found=directory.list(who, kind, wanted=wanted, start_index=start, count=_PAGE), me=me)


def _kind(visit: Visit) -> tuple[PrincipalKind, str, str]:
    return _KINDS.get(visit.query.get("tab", ""), _KINDS["users"])


def _wanted(kind: PrincipalKind, text: str) -> Filter | None:
    if not text:
        return None
    by_name, by_display = (
        Compare(attribute=attribute, comparison=Comparison.CONTAINS, value=text)
        for attribute in (_NAMES[kind], "displayname")
    )
    return Either(left=by_name, right=by_display)


def _draw_list(visit: Visit, data: _List) -> None:
    if data.found is None:
        page_header("You and your groups", symbol="group", subtitle="Administrators manage users and groups.")
        with el("div", cls="mp-stack"):
            _draw_about(visit, data.me)
        return
    page_header("Users and groups", symbol="group", subtitle="Who may sign in, and what they belong to.")
    kind, _, symbol = _kind(visit)
    items = [
        Tab(key=key, label=label, href=urls.USERS if key == "users" else f"{urls.USERS}?tab={key}")
        for key, (_, label, _) in _KINDS.items()
    ]
    tabs(items, visit.query.get("tab", "users"), label="Kinds")
    with el("div", cls="mp-stack"):
        with el("div", cls="mp-toolbar"):
            keep = [("tab", visit.query["tab"])] if visit.query.get("tab") else []
            filter_form(label="Filter by name", value=visit.query.get("q", ""), keep=keep)
            el("span", f"{data.found.total:,} {kind.words}{'' if data.found.total == 1 else 's'}", cls="mp-note")
        if data.found.entries:
            _draw_entries(visit, kind, symbol, data.found)
        elif visit.query.get("q"):
            empty_state("Nobody is called like this", "Look for a part of the name.", symbol="search_off")
        else:
            empty_state(f"No {kind.words}s yet", "Add the first one below.", symbol=symbol)
        _draw_new(visit, kind)


def _draw_entries(visit: Visit, kind: PrincipalKind, symbol: str, found: Listing) -> None:
    grouped = kind is PrincipalKind.GROUP
    rows: Rows = [_row(entry, symbol) for entry in found.entries]
    columns = (
        TableColumn(label="Name", grow=True),
        TableColumn(label="State"),
        TableColumn(label="Members", numeric=True) if grouped else TableColumn(label="Groups"),
        TableColumn(label="Added", optional=True),
    )
    following = found.start_index + _PAGE
    with el("div"):
        DataTable(label=f"{kind.words.capitalize()}s", columns=columns, rows=rows)
        pager(
            next_href=visit.link(page=str(following)) if following <= found.total else None,
            first_href=visit.link(page=None) if found.start_index > 1 else None,
        )


def _row(entry: Entry, symbol: str) -> list[Cell | str]:
    account = entry.account
    note = account.display_name if account.display_name != account.name else None
    groups = ", ".join(group.name for group in entry.groups if group.name != USERS)
    return [
        Cell(text=account.name, note=note, href=urls.account_url(account.id), symbol=symbol),
        Cell(badges=_state(entry)),
        f"{len(entry.members):,}" if account.kind is PrincipalKind.GROUP else groups,
        Cell(time_ms=epoch_ms(account.created_at)),
    ]


def _state(entry: Entry) -> tuple[tuple[str, Tone], ...]:
    account = entry.account
    if account.kind is PrincipalKind.GROUP:
        return (("built in", "plain"),) if account.is_built_in else ()
    admin = any(group.name == ADMINS for group in entry.groups)
    active: tuple[str, Tone] = ("active", "good") if account.active else ("deactivated", "warn")
    return (active, ("administrator", "accent")) if admin else (active,)


def _draw_new(visit: Visit, kind: PrincipalKind) -> None:
    directory = visit.services.directory

    def add(principal: Principal) -> None:
        if not name.value.strip():
            raise InvalidArgument("Give a name.")
        draft = Draft(
            name=name.value.strip(),
            display_name=display.value.strip() if display else name.value.strip(),
            password=(password.value or None) if password else None,
        )
        directory.create(principal, kind, draft)

    display = password = None
    with card(f"Add a {kind.words}"), form(reloading(visit, add), label=f"Add a {kind.words}"):
        with labelled(_WHAT[kind][0]):
            name = TextField(label=_WHAT[kind][0], placeholder=_WHAT[kind][1], maxlength="255")
        if kind is not PrincipalKind.GROUP:
            with labelled("Display name"):
                display = TextField(label="Display name", maxlength="255")
        if kind is PrincipalKind.USER:
            with labelled("Initial password"):
                password = TextField(label="Initial password", secret=True)
        submit("Add")


_WHAT = {
    PrincipalKind.USER: ("User name", "ann@example.com"),
    PrincipalKind.GROUP: ("Group name", "analysts"),
    PrincipalKind.SERVICE_PRINCIPAL: ("Application id, a UUID", "6f9f1a2e-..."),
}


# One account


@dataclass(frozen=True, kw_only=True)
class _One:
    entry: Entry
    names: Names


def _load_one(visit: Visit) -> _One:
    who, account_id = visit.principal, visit.path["account_id"]
    if account_id != who.id:
        require_admin(who, "see another user or group")
    entry = visit.services.directory.get(who, None, account_id)
    changeable = entry.account.kind is PrincipalKind.GROUP and entry.account.name != USERS
    return _One(entry=entry, names=principal_names(visit) if changeable else ())


def _draw_one(visit: Visit, data: _One) -> None:
    account = data.entry.account
    symbol = next(symbol for kind, _, symbol in _KINDS.values() if kind is account.kind)
    actions = page_header(
        account.name,
        symbol=symbol,
        crumbs=[Crumb(label="Users and groups", href=urls.USERS)],
        kind=account.kind.words.capitalize(),
        subtitle=account.display_name if account.display_name != account.name else None,
    )
    if visit.principal.is_admin and not account.is_built_in and account.id != visit.principal.id:
        with actions:
            _draw_actions(visit, account)
    with el("div", cls="mp-stack"):
        _draw_about(visit, data.entry)
        if account.kind is PrincipalKind.GROUP:
            _draw_members(visit, data)


def _draw_about(visit: Visit, entry: Entry) -> None:
    account = entry.account
    with card("About"):
        facts(
            [
                ("Name", account.name),
                ("Id", Cell(text=account.id, code=True)),
                ("State", Cell(badges=_state(entry)) if _state(entry) else None),
                ("Added", Cell(time_ms=epoch_ms(account.created_at))),
                ("E-mail", ", ".join(account.profile.emails)),
                ("Id in the directory", account.external_id),
            ]
        )
    with card("Groups"), el("div", cls="mp-row"):
        for group in entry.groups:
            if visit.principal.is_admin:
                link(group.name, urls.account_url(group.id))
            else:
                badge(group.name)
        mine = visit.principal.groups if account.id == visit.principal.id else frozenset()
        through = sorted(mine - {group.name for group in entry.groups})
        if through:
            el("span", f"and through these: {', '.join(through)}", cls="mp-note")
        if not entry.groups:
            el("span", "In no other group.", cls="mp-muted")


def _draw_actions(visit: Visit, account: Account) -> None:
    directory = visit.services.directory
    if account.kind is not PrincipalKind.GROUP:
        change = _edit(visit, account, lambda draft: replace(draft, active=not account.active))
        text, symbol = ("Deactivate", "person_off") if account.active else ("Activate", "person")
        button(text, reloading(visit, change), symbol=symbol)
    question = f"Delete {account.name} with all tokens and memberships? What it owns stays."
    ask_first(
        "Delete",
        question if account.kind is not PrincipalKind.GROUP else f"Delete the group {account.name}?",
        reloading(visit, lambda principal: directory.delete(principal, account.kind, account.id), then=urls.USERS),
    )


def _edit(visit: Visit, account: Account, change: Callable[[Draft], Draft]) -> Callable[[Principal], object]:
    """Work that replaces an account by what `change` makes of it as it is then."""
    directory = visit.services.directory
    return lambda principal: directory.update(
        principal, account.kind, account.id, lambda entry: change(_draft_of(entry))
    )


def _draft_of(entry: Entry) -> Draft:
    account = entry.account
    return Draft(
        name=account.name,
        display_name=account.display_name,
        active=account.active,
        external_id=account.external_id,
        profile=account.profile,
        member_ids=frozenset(member.id for member in entry.members),
    )


# Members of a group


def _draw_members(visit: Visit, data: _One) -> None:
    account, members = data.entry.account, data.entry.members
    suggest(data.names)
    with card(f"Members, {len(members):,}"), el("div", cls="mp-stack"):
        if account.name == USERS:
            el("p", "Everybody who may sign in.", cls="mp-muted")
            return
        if account.name == ADMINS:
            el("p", "Administrators may do all, everywhere.", cls="mp-muted")
        with el("div", cls="mp-row"):
            for member in members[:_MEMBERS]:
                chip(member.name, _remover(visit, account, member), f"Remove {member.name}", tone="info")
        if not members:
            el("p", "No members yet: a privilege that the group is granted is theirs as soon as they are in it.")
        if len(members) > _MEMBERS:
            el("p", f"{len(members) - _MEMBERS:,} more; a client shows them all.", cls="mp-note")
        _draw_new_member(visit, account)


def _remover(visit: Visit, group: Account, member: Related) -> Callable[[], object]:
    return reloading(
        visit, _edit(visit, group, lambda draft: replace(draft, member_ids=draft.member_ids - {member.id}))
    )


def _draw_new_member(visit: Visit, group: Account) -> None:
    def add(principal: Principal) -> None:
        found = visit.services.directory.find_principal(field.value.strip())
        if found is None:
            raise InvalidArgument(f"There is no user, service principal or group '{field.value.strip()[:80]}'.")
        _edit(visit, group, lambda draft: replace(draft, member_ids=draft.member_ids | {found.id}))(principal)

    with form(reloading(visit, add), label="Add a member"):
        with labelled("New member"):
            field = principal_field("New member")
        submit("Add")


PAGES = (
    Page(path="/users", section="users", load=_load_list, draw=_draw_list, title=lambda _visit, _data: "Users"),
    Page(
        path="/users/{account_id}",
        section="users",
        load=_load_one,
        draw=_draw_one,
        title=lambda _visit, data: data.entry.account.name,
    ),
)
