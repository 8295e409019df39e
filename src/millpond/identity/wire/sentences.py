"""Explanations of access in sentences, from their JSON: for the command line, and for pages."""

from typing import Any


def sentences(told: dict[str, Any]) -> list[str]:
    """Yes or no, then each reason, or each privilege that is missing."""
    what = f"{_words(told['privilege'])} on {told['securable_type']} {told['name']}"
    if not told["allowed"]:
        return [f"No: {told['principal']} may not use {what}.", *map(_missing, told["missing"])]
    reasons = (_reason(each, told["principal"]) for each in told["reasons"])
    return [f"Yes: {told['principal']} has {what}.", *reasons, *map(_narrowing, told["narrowed_by"])]


def _missing(lack: dict[str, Any]) -> str:
    places = " or ".join(f"{place['securable_type']} {place['name']}" for place in lack["grantable_on"])
    return f"  missing: {_words(lack['privilege'])}, to be granted on {places}"


def _reason(reason: dict[str, Any], user: str) -> str:
    place = f"{reason['securable_type']} {reason['name']}"
    via = "" if reason["principal"] == user else f", through group {reason['principal']}"
    match reason["by"]:
        case "administrator":
            return "  as an administrator"
        case "ownership":
            return f"  by owning {place}{via}"
        case "everybody":
            return f"  because {place} is for everybody signed in"
        case _:
            return f"  by the grant of {_words(reason['privilege'])} on {place}{via}"


def _narrowing(found: dict[str, Any]) -> str:
    """What is kept from somebody who may read a table."""
    if "reason" in found:
        return f"  but nothing is shown: {found['reason']} ({found['code']})"
    whose = (
        f"policy {found['policy']} on {found['securable_type']} {found['name']}" if "policy" in found else "the table"
    )
    what = f"column {found['column']} is masked" if "column" in found else "rows are filtered"
    return f"  but {what} by {found['function']}, as {whose} says"


def _words(privilege: str) -> str:
    return privilege if privilege.startswith("CAN_") else privilege.replace("_", " ")
