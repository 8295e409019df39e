"""The environment variables of a served entity, and the secrets that they refer to.

Checked with the rights of who makes a configuration, stored and shown as written; the values are put in when a worker
starts, with the rights that the same person has then.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from millpond.identity.access import require_admin
from millpond.identity.domain import Principal
from millpond.journal import calls
from millpond.journal.calls import Call
from millpond.kernel.errors import MillpondError, PermissionDenied
from millpond.kernel.http import STATUS_OF_CODE
from millpond.secrets.references import References, has_references
from millpond.serving.domain import NETWORK, ServedEntity, check_environment


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a worker gets."""

    variables: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """The secrets among the values, which its output must not show."""


class Variables:
    """Checks and resolves environment variables."""

    def __init__(
        self, references: References, find_principal: Callable[[str], Principal], *, managers_open_network: bool = False
    ) -> None:
        """`managers_open_network`: whoever manages an endpoint may let its models use the network, not administrators
        alone."""
        self._references = references
        self._find_principal = find_principal
        self._managers_open_network = managers_open_network

    def may_open_network(self, principal: Principal) -> bool:
        """Whether somebody who manages an endpoint may let a model of theirs use the network."""
        return principal.is_admin or self._managers_open_network

    def check_follows(self, entity: ServedEntity, version: str, mover: str | None) -> None:
        """Pass if the version that somebody let the entity's reference name may have the network opened for the entity.

        Raises PermissionDenied where that is for administrators to open, and the mover is none or not known.
        """
        if not entity.asks_for_network or self._managers_open_network or self._is_admin(mover):
            return
        words = entity.reference.words if entity.reference else "the reference"
        raise PermissionDenied(
            f"an administrator opened the network for it ({NETWORK}), but nobody who is one let {words} name version "
            f"{version}. An administrator sets it again, or updates the configuration."
        )

    def _is_admin(self, name: str | None) -> bool:
        try:
            return name is not None and self._find_principal(name).is_admin
        except MillpondError:  # somebody who is gone
            return False

    def check(self, principal: Principal, variables: Mapping[str, str]) -> dict[str, str]:
        """The variables as they are stored.

        Raises InvalidArgument, and NotFound or PermissionDenied for a secret that the principal may not read, and for
        the network where that is for administrators to open.
        """
        checked = check_environment(variables)
        if checked.get(NETWORK) == "true" and not self.may_open_network(principal):
            require_admin(principal, f"let a model use the network ({NETWORK})")
        for name, text in checked.items():
            try:
                self._references.check(principal, text)
            except MillpondError as error:
                raise type(error)(f"environment_vars: {name}: {error.message}") from error
        return checked

    def resolve(self, entity: ServedEntity) -> Environment:
        """The entity's variables with their secrets put in. Blocks.

        Raises MillpondError for a secret that is not there, or not for the entity's creator any more.
        """
        referring = [name for name, text in entity.environment.items() if has_references(text)]
        if not referring:
            return Environment(variables=entity.environment)
        with _recorded(entity):
            creator = self._find_principal(entity.creator)
            found = {name: self._references.resolve(creator, entity.environment[name]) for name in referring}
        variables = dict(entity.environment) | {name: resolved.text for name, resolved in found.items()}
        secrets = {value for resolved in found.values() for value in resolved.values}
        return Environment(variables=check_environment(variables), secrets=tuple(secrets))


@contextmanager
def _recorded(entity: ServedEntity) -> Iterator[None]:
    """A start of a worker as the audit is told of it: nobody calls then, and secrets are read."""
    call = Call(door="background", act="start", kind="served model", name=entity.name, actor=entity.creator)
    with calls.during(call):
        try:
            yield
        except MillpondError as error:
            call.end(STATUS_OF_CODE.get(error.code, 500), error.code)
            raise
        call.end(calls.OK)
