"""Secrets: scopes, their keys, and who may use them. No page ever holds a value that was put."""

from collections.abc import Sequence
from dataclasses import dataclass

from millpond.identity.domain import USERS, Principal
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument
from millpond.secrets.domain import Acl, Permission, Scope, Secret
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    SelectField,
    TableColumn,
    TextField,
    badge,
    button,
    card,
    code_block,
    el,
    empty_state,
    page_header,
    table,
    when,
)
from millpond.ui.forms import (
    Act,
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

_USE = """from databricks.sdk import WorkspaceClient

password = WorkspaceClient().dbutils.secrets.get("{scope}", "{key}")"""


# The scopes


def _load_scopes(visit: Visit) -> Sequence[Scope]:
    return visit.services.secrets.list_scopes(visit.principal)


def _draw_scopes(visit: Visit, scopes: Sequence[Scope]) -> None:
    page_header("Secrets", symbol="key", subtitle="Passwords and keys that programs read by name, encrypted at rest.")
    with el("div", cls="mp-stack"):
        if scopes:
            rows: Rows = [[Cell(text=scope.name, href=urls.scope_url(scope.name), symbol="key")] for scope in scopes]
            DataTable(label="Scopes", columns=(TableColumn(label="Scope", grow=True),), rows=rows)
        else:
            text = (
                "A scope holds secrets and says who may read them. Make one below, or ask who manages one for an ACL."
            )
            empty_state("No scope that you may use", text, symbol="key")
        _draw_new_scope(visit)


def _draw_new_scope(visit: Visit) -> None:
    def create(principal: Principal) -> None:
        manager = USERS if who.value == USERS else None
        visit.services.secrets.create_scope(principal, name.value.strip(), initial_manager=manager)

    with card("Create a scope"), form(reloading(visit, create), label="Create a scope"):
        with labelled("Name"):
            name = TextField(label="Name of the scope", placeholder="warehouse", maxlength="128")
        with labelled("Managed by"):
            who = SelectField(label="Managed by", choices=(("", "Me"), (USERS, "Everybody")), value="")
        submit("Create scope")


# One scope


@dataclass(frozen=True, kw_only=True)
class _Scope:
    name: str
    secrets: Sequence[Secret]
    acls: Sequence[Acl]
    """Empty for who does not manage the scope."""
    held: Permission
    names: Names


def _load_scope(visit: Visit) -> _Scope:
    service, who, name = visit.services.secrets, visit.principal, visit.path["scope"]
    held = service.permission_on(who, name)
    manages = held.includes(Permission.MANAGE)
    return _Scope(
        name=name,
        secrets=service.list_secrets(who, name),
        acls=service.list_acls(who, name) if manages else (),
        held=held,
        names=principal_names(visit) if manages else (),
    )


def _draw_scope(visit: Visit, data: _Scope) -> None:
    manages = data.held.includes(Permission.MANAGE)
    crumbs = [Crumb(label="Secrets", href=urls.SECRETS)]
    actions = page_header(data.name, symbol="key", crumbs=crumbs, kind=f"You may {data.held.value.lower()}")
    if manages:
        with actions:
            delete = reloading(visit, lambda p: visit.services.secrets.delete_scope(p, data.name), then=urls.SECRETS)
            ask_first("Delete scope", "Delete it with all its secrets?", delete)
    with el("div", cls="mp-stack"):
        if data.secrets:
            _draw_secrets(visit, data)
            code_block(_USE.format(scope=data.name, key=data.secrets[0].key), title="Read it in a program")
        else:
            more = "Put the first one below." if data.held.includes(Permission.WRITE) else "Ask who manages the scope."
            empty_state("No secrets in this scope yet", more, symbol="key_off")
        if data.held.includes(Permission.WRITE):
            _draw_put(visit, data)
        if manages:
            _draw_acls(visit, data)


def _draw_secrets(visit: Visit, data: _Scope) -> None:
    may_write = data.held.includes(Permission.WRITE)
    with table("Secrets", ["Key", "Changed", *([""] if may_write else [])]):
        for secret in data.secrets:
            with el("tr"):
                with el("td"):
                    el("code", secret.key)
                with el("td"):
                    when(epoch_ms(secret.updated_at))
                if may_write:
                    with el("td"):
                        delete = _deleter(visit, data.name, secret.key)
                        ask_first("Delete", f"Delete {secret.key}?", delete, what=secret.key)


def _deleter(visit: Visit, scope: str, key: str) -> Act:
    return reloading(visit, lambda principal: visit.services.secrets.delete_secret(principal, scope, key))


def _draw_put(visit: Visit, data: _Scope) -> None:
    def put(principal: Principal) -> None:
        if not value.value:
            raise InvalidArgument("Type the value.")
        visit.services.secrets.put_secret(principal, data.name, key.value.strip(), value.value.encode())

    with card("Put a secret"):
        with form(reloading(visit, put), label="Put a secret"):
            with labelled("Key"):
                key = TextField(label="Key", placeholder="password", maxlength="128")
            with labelled("Value"):
                value = TextField(label="Value", secret=True)
            submit("Put secret")
        el("p", "It replaces the value under the same key, and no page shows it again.", cls="mp-note")


# Who may use it


def _draw_acls(visit: Visit, data: _Scope) -> None:
    suggest(data.names)
    with card("Who may use this scope"), el("div", cls="mp-stack"):
        el("p", "READ reads values, WRITE puts and deletes them too, MANAGE also says who may.", cls="mp-note")
        with table("Access", ["Who", "May", ""]):
            for acl in data.acls:
                _draw_acl(visit, data.name, acl)
        _draw_new_acl(visit, data.name)


def _draw_acl(visit: Visit, scope: str, acl: Acl) -> None:
    remove = reloading(visit, lambda principal: visit.services.secrets.delete_acl(principal, scope, acl.principal))
    with el("tr"):
        el("td", acl.principal)
        with el("td"):
            badge(acl.permission.value, "accent")
        with el("td"):
            button("Remove", remove, kind="mp-quiet mp-danger", aria_label=f"Remove {acl.principal}")


def _draw_new_acl(visit: Visit, scope: str) -> None:
    def put(principal: Principal) -> None:
        permission = Permission(level.value)
        visit.services.secrets.put_acl(principal, scope, who.value.strip(), permission)

    with form(reloading(visit, put), label="Give access"):
        with labelled("To"):
            who = principal_field("Give access to")
        with labelled("May"):
            choices = [(each.value, each.value) for each in Permission]
            level = SelectField(label="May", choices=choices, value=Permission.READ.value)
        submit("Give access")


PAGES = (
    Page(
        path="/secrets",
        section="secrets",
        load=_load_scopes,
        draw=_draw_scopes,
        title=lambda _visit, _scopes: "Secrets",
    ),
    Page(
        path="/secrets/{scope}",
        section="secrets",
        load=_load_scope,
        draw=_draw_scope,
        title=lambda _visit, data: data.name,
    ),
)
