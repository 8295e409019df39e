"""The JSON of policies, as `PolicyInfo` of `databricks/sdk/service/catalog.py` has it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from millpond.catalog.domain import ObjectName
from millpond.catalog.policies import MatchColumn, Policy, PolicyArgument, PolicyType, Terms
from millpond.identity.grants import unity_name
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ArgumentBody(_Body):
    """FunctionArgument."""

    alias: str | None = None
    constant: str | None = None
    function_arg_expression: dict[str, Any] | None = None


class OptionsBody(_Body):
    """RowFilterOptions and ColumnMaskOptions."""

    function_name: str
    on_column: str = ""
    using: list[ArgumentBody] | None = None


class MatchBody(_Body):
    """MatchColumn."""

    alias: str | None = None
    condition: str | None = None


class PolicyBody(_Body):
    """PolicyInfo, of POST and PATCH."""

    name: str | None = None
    on_securable_type: str | None = None
    on_securable_fullname: str | None = None
    for_securable_type: str | None = None
    policy_type: str | None = None
    comment: str | None = None
    to_principals: list[str] | None = None
    except_principals: list[str] | None = None
    when_condition: str | None = None
    match_columns: list[MatchBody] | None = None
    row_filter: OptionsBody | None = None
    column_mask: OptionsBody | None = None


_CHANGED = frozenset(PolicyBody.model_fields) - {"on_securable_type", "on_securable_fullname"}
"""What an update can change."""


def kind_of(securable_type: str | None) -> str:
    """The kind of object that a client means by CATALOG, ..."""
    return (securable_type or "").lower()


def terms_of(body: PolicyBody) -> Terms:
    """The terms in a body. Raises InvalidArgument."""
    kind = _type_of(body.policy_type)
    options = body.column_mask if kind is PolicyType.COLUMN_MASK else body.row_filter
    if kind_of(body.for_securable_type) != "table":
        raise InvalidArgument(f"for_securable_type is '{body.for_securable_type}'; policies here are for TABLE.")
    if not body.name or options is None:
        wanted = "column_mask" if kind is PolicyType.COLUMN_MASK else "row_filter"
        raise InvalidArgument(f"A policy of type {kind.value} needs a name and {wanted}.")
    return Terms(
        name=body.name,
        type=kind,
        function=ObjectName.of_full_name(options.function_name),
        to=tuple(body.to_principals or ()),
        exempt=tuple(body.except_principals or ()),
        comment=body.comment or None,
        when=body.when_condition or "",
        columns=tuple(
            MatchColumn(alias=each.alias or "", condition=each.condition or "") for each in body.match_columns or ()
        ),
        on_column=options.on_column,
        using=tuple(map(_argument, options.using or ())),
    )


def changed(terms: Terms, body: PolicyBody, update_mask: str) -> Terms:
    """The terms with those fields of a body that count: those of the mask, given or not; without one, those given.

    Raises InvalidArgument for a field that cannot be changed.
    """
    fields = {field.strip() for field in update_mask.split(",")} - {"", "*"}
    if fields - _CHANGED:
        raise InvalidArgument(f"update_mask is '{update_mask[:200]}'; it may name {', '.join(sorted(_CHANGED))}.")
    given = body.model_dump(include=set(_CHANGED))
    chosen = (
        {key: given[key] for key in fields}
        if fields
        else {key: value for key, value in given.items() if value is not None}
    )
    return terms_of(PolicyBody.model_validate(_terms_json(terms) | chosen))


def policy_json(policy: Policy) -> dict[str, Any]:
    """PolicyInfo."""
    return {
        "id": policy.id,
        "on_securable_type": policy.on.kind.upper(),
        "on_securable_fullname": policy.on.name,
        **_terms_json(policy.terms),
        "governed_tags": [
            {"tag_key": key, **({"tag_value": value} if value else {})}
            for key, value in sorted((key, value or "") for key, value in policy.terms.tags)
        ],
        "created_at": epoch_ms(policy.created_at),
        "created_by": policy.created_by,
        "updated_at": epoch_ms(policy.updated_at),
        "updated_by": policy.updated_by,
    }


def _terms_json(terms: Terms) -> dict[str, Any]:
    masks = terms.type is PolicyType.COLUMN_MASK
    options = {"function_name": str(terms.function), "using": [_argument_json(each) for each in terms.using]}
    found: Mapping[str, Any] = {
        "name": terms.name,
        "policy_type": terms.type.value,
        "for_securable_type": "TABLE",
        "comment": terms.comment,
        "to_principals": [unity_name(each) for each in terms.to],
        "except_principals": [unity_name(each) for each in terms.exempt],
        "when_condition": terms.when,
        "match_columns": [{"alias": each.alias, "condition": each.condition} for each in terms.columns],
        "column_mask": {**options, "on_column": terms.on_column} if masks else None,
        "row_filter": None if masks else options,
    }
    return {key: value for key, value in found.items() if value}


def _type_of(policy_type: str | None) -> PolicyType:
    try:
        return PolicyType(policy_type or "")
    except ValueError as error:
        known = ", ".join(PolicyType)
        raise InvalidArgument(f"policy_type is '{policy_type}'; here it is one of {known}.") from error


def _argument(body: ArgumentBody) -> PolicyArgument:
    if body.function_arg_expression is not None:
        raise InvalidArgument("function_arg_expression is not supported; give an alias or a constant.")
    return PolicyArgument(alias=body.alias, constant=body.constant)


def _argument_json(argument: PolicyArgument) -> dict[str, str]:
    return {"alias": argument.alias} if argument.alias is not None else {"constant": argument.constant or ""}
