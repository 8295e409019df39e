"""References to secrets in other objects' configurations: `{{secrets/SCOPE/KEY}}` within a text.

What refers to a secret is stored and shown as it was written; the value is put in only where the text is used, each
time anew and with the rights that its author has then.
"""

import re
from dataclasses import dataclass, field

from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument
from millpond.secrets.domain import NAME_PATTERN
from millpond.secrets.service import SecretsService

_REFERENCE = re.compile(rf"\{{\{{\s*secrets/({NAME_PATTERN})/({NAME_PATTERN})\s*\}}\}}")
_ATTEMPT = re.compile(r"\{\{\s*secrets/")


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A text with its secrets put in."""

    text: str = field(repr=False)
    values: tuple[str, ...] = field(repr=False)
    """The secrets, to be kept out of what is shown."""


def has_references(text: str) -> bool:
    """Whether a text refers to a secret, or tries to."""
    return _ATTEMPT.search(text) is not None


class References:
    """Checks and resolves references."""

    def __init__(self, secrets: SecretsService) -> None:
        self._secrets = secrets

    def check(self, principal: Principal, text: str) -> None:
        """Pass when every reference of the text is to a secret that the principal may read.

        Raises InvalidArgument (not a reference), NotFound, PermissionDenied.
        """
        for scope, key in _found(text):
            self._secrets.require_secret(principal, scope, key)

    def resolve(self, principal: Principal, text: str) -> Resolved:
        """The text with the values that its references have now.

        Raises what `check` raises, MasterKeyUnavailable and DataLoss.
        """
        values = {place: self._value(principal, *place) for place in _found(text)}
        return Resolved(
            text=_REFERENCE.sub(lambda match: values[match.group(1), match.group(2)], text),
            values=tuple(values.values()),
        )

    def _value(self, principal: Principal, scope: str, key: str) -> str:
        try:
            return self._secrets.get_secret(principal, scope, key).decode()
        except UnicodeDecodeError:
            raise InvalidArgument(
                f"Secret '{key}' in scope '{scope}' is not text (UTF-8), so no text can hold it."
            ) from None


def _found(text: str) -> set[tuple[str, str]]:
    found = _REFERENCE.findall(text)
    if len(found) != len(_ATTEMPT.findall(text)):
        raise InvalidArgument("A reference to a secret is not well formed; write {{secrets/SCOPE/KEY}}.")
    return set(found)
