"""The tab of policies on catalogs, schemas and tables: those set here or above, and a form for another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from millpond.catalog.domain import ObjectName
from millpond.catalog.policies import MatchColumn, Policy, PolicyArgument, PolicyType, Terms
from millpond.identity.access import Act, Securable, allows
from millpond.identity.domain import Principal
from millpond.identity.grants import unity_name
from millpond.kernel.errors import InvalidArgument
from millpond.ui import urls
from millpond.ui.elements import SelectField, Tab, TextField, badge, card, el, empty_state, link, table
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
from millpond.ui.visit import Visit

TAB = "policies"
_ALIAS = "c"
"""What the form calls the columns, which nobody sees."""
_KINDS = {PolicyType.COLUMN_MASK: "Mask columns", PolicyType.ROW_FILTER: "Filter rows"}
_NOTE = (
    "The conditions ask for governed tags: has_tag('key'), has_tag_value('key', 'value'), AND, OR, NOT. The function "
    "is given the column, then the constants."
)
_EXAMPLE = """CREATE POLICY hide_numbers ON {kind} {name}
  COLUMN MASK {home}.last_digits TO `account users` EXCEPT `stewards`
  FOR TABLES MATCH COLUMNS has_tag_value('pii', 'ssn') AS n ON COLUMN n"""


@dataclass(frozen=True, kw_only=True)
class Policies:
    """What the tab shows."""

    securable: Securable
    found: Sequence[Policy]
    names: Names


def policies_tab(visit: Visit, securable: Securable) -> list[Tab]:
    """The tab, for who manages the object; others are told by the question why on the tab of permissions."""
    if not _has_policies(visit.principal, securable):
        return []
    return [Tab(key=TAB, label="Policies", href=visit.link(tab=TAB, q=None, page=None))]


def load_policies(visit: Visit, securable: Securable) -> Policies | None:
    """What the tab needs, when it is the open one."""
    if visit.query.get("tab") != TAB or not _has_policies(visit.principal, securable):
        return None
    found = visit.services.catalog.list_policies(visit.principal, securable.kind, securable.name, inherited=True)
    return Policies(securable=securable, found=found, names=principal_names(visit))


def _has_policies(principal: Principal, securable: Securable) -> bool:
    return allows(principal, Act.MANAGE, securable) and not (securable.kept_by_server or securable.public)


def draw_policies(visit: Visit, data: Policies) -> None:
    """Draw the tab."""
    suggest(data.names)
    with el("div", cls="mp-stack"):
        if data.found:
            _draw_found(visit, data)
        else:
            _draw_nothing(data)
        _draw_form(visit, data)


def _draw_nothing(data: Policies) -> None:
    kind, name = data.securable.kind, data.securable.name
    home = ".".join([*name.split("."), "default"][:2])
    empty_state(
        "No policy covers this",
        "A policy filters rows or masks columns of all tables below with certain tags, new ones too. Set one below, or "
        "in SQL:",
        symbol="policy",
        code=_EXAMPLE.format(kind=kind.upper(), name=name, home=home),
        code_title="SQL",
    )


def _draw_found(visit: Visit, data: Policies) -> None:
    with table("Policies", ["Policy", "What it does", "For", "Where", "Set on", ""]):
        for policy in data.found:
            with el("tr"):
                _draw_policy(policy)
                _draw_place(visit, data, policy)


def _draw_policy(policy: Policy) -> None:
    terms = policy.terms
    with el("td"):
        el("span", terms.name)
        if terms.comment:
            el("div", terms.comment, cls="mp-note")
    with el("td"):
        badge(terms.type.words)
        _draw_code(str(terms.function))
    with el("td"):
        el("span", ", ".join(map(unity_name, terms.to)))
        if terms.exempt:
            el("div", f"not {', '.join(map(unity_name, terms.exempt))}", cls="mp-note")
    with el("td"):
        for text in _conditions(terms):
            _draw_code(text)


def _draw_code(text: str) -> None:
    with el("div"):
        el("code", text).style("white-space: normal; overflow-wrap: anywhere")


def _conditions(terms: Terms) -> list[str]:
    columns = [f"columns: {each.condition or 'any'}" for each in terms.columns]
    return [*([f"tables: {terms.when}"] if terms.when else []), *columns] or ["all tables"]


def _draw_place(visit: Visit, data: Policies, policy: Policy) -> None:
    here, on = policy.on.ids[0] == data.securable.ids[0], policy.on
    with el("td"):
        if here:
            el("span", "here")
        else:
            link(f"{on.kind} {on.name}", f"{urls.found_url(on.kind, on.name)}?tab={TAB}")
    with el("td"):
        if here:
            name, catalog = policy.terms.name, visit.services.catalog
            drop = reloading(visit, lambda who: catalog.delete_policy(who, on.kind, on.name, name))
            ask_first("Drop", "Then it hides nothing any more.", drop, what=f"policy {name}")


def _draw_form(visit: Visit, data: Policies) -> None:
    act = reloading(visit, lambda who: visit.services.catalog.create_policy(who, kind, data.securable.name, terms()))
    kind = data.securable.kind
    with card("New policy"), form(act, label="New policy", cls="mp-stack"):
        terms = _fields()
        el("p", _NOTE, cls="mp-note")
        with el("div", cls="mp-row"):
            submit("Create policy")


def _fields() -> Callable[[], Terms]:
    with el("div", cls="mp-row mp-form"):
        name = _field("Name", "hide_numbers")
        with labelled("What it does"):
            kind = SelectField(
                label="What it does",
                choices=[(each.value, text) for each, text in _KINDS.items()],
                value=PolicyType.COLUMN_MASK,
            )
        function = _field("Function", "catalog.schema.function")
    with el("div", cls="mp-row mp-form"):
        with labelled("For"):
            to = principal_field("For")
        with labelled("Except for"):
            exempt = principal_field("Except for")
    with el("div", cls="mp-row mp-form"):
        columns = _field("Columns", "has_tag_value('pii', 'ssn')")
        when = _field("Tables (all, if empty)", "has_tag('confidential')")
        constants = _field("Constants", "4, 'EU'")
    return lambda: _terms(
        name.value, PolicyType(kind.value), function.value, to.value, exempt.value, columns.value, when.value,
        constants.value,
    )  # fmt: skip


def _field(label: str, placeholder: str) -> TextField:
    with labelled(label):
        return TextField(label=label, placeholder=placeholder)


def _terms(
    name: str, kind: PolicyType, function: str, to: str, exempt: str, columns: str, when: str, constants: str
) -> Terms:
    """What the form says. A mask needs columns; a filter is given the one that it names, if it names any."""
    masks = kind is PolicyType.COLUMN_MASK
    if masks and not columns.strip():
        raise InvalidArgument("Say which columns are masked, by their tags: has_tag_value('pii', 'ssn').")
    given = [PolicyArgument(alias=_ALIAS)] if columns.strip() and not masks else []
    return Terms(
        name=name.strip(),
        type=kind,
        function=ObjectName.parse(function.strip()),
        to=_listed(to),
        exempt=_listed(exempt),
        when=when.strip(),
        columns=(MatchColumn(alias=_ALIAS, condition=columns.strip()),) if columns.strip() else (),
        on_column=_ALIAS if masks else "",
        using=(*given, *(PolicyArgument(constant=each) for each in _listed(constants))),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())
