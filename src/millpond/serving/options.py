"""What can be set on an endpoint while its configuration stays (limits, mail, shadows), and what happened to it."""

from collections.abc import Mapping, Sequence

from millpond.identity import acts
from millpond.identity.access import Act
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.notifications.mail import Mailer
from millpond.serving import store
from millpond.serving.domain import Endpoint, Event, Notifications, Shadow
from millpond.serving.history import Key, Moment
from millpond.serving.limits import RateLimit, check_limits
from millpond.serving.reach import get_endpoint, lock_endpoint
from millpond.serving.runtime import ServingRuntime
from millpond.serving.shadowing import Tally, check_shadows

MAX_EVENTS = 500
_MOST_ADDRESSES = 20


class EndpointOptions:
    """Rate limits, notifications, shadows, recent metrics and events of endpoints. All of it blocks."""

    def __init__(self, database: Database, runtime: ServingRuntime, mail: Mailer | None) -> None:
        self._database = database
        self._runtime = runtime
        self._mail = mail

    def set_rate_limits(self, principal: Principal, name: str, limits: Sequence[RateLimit]) -> Endpoint:
        """Replace the rate limits; they count from now on. Raises NotFound, PermissionDenied, InvalidArgument."""
        checked = check_limits(limits)
        with self._database.write() as connection:
            endpoint = lock_endpoint(connection, principal, name)
            store.write_rate_limits(connection, endpoint.id, checked, now=utc_now())
            acts.changed(connection, principal.name, "limit", "endpoint", name, limits=len(checked))
            changed = lock_endpoint(connection, principal, name)
        self._runtime.reset(changed)
        return changed

    def set_notifications(self, principal: Principal, name: str, notifications: Notifications) -> Endpoint:
        """Replace who gets mail when an update ends.

        Raises NotFound, PermissionDenied, InvalidArgument, and FailedPrecondition where the server sends no mail.
        """
        get_endpoint(self._database, principal, name, Act.MANAGE)
        self.check_notifications(principal, notifications)
        with self._database.write() as connection:
            endpoint = lock_endpoint(connection, principal, name)
            store.write_notifications(connection, endpoint.id, notifications, now=utc_now())
            acts.changed(connection, principal.name, "notify", "endpoint", name)
            return lock_endpoint(connection, principal, name)

    def check_notifications(self, principal: Principal, notifications: Notifications) -> None:
        """Pass if the principal may let mail go to all of these. Raises as `set_notifications`."""
        addresses = {*notifications.on_update_success, *notifications.on_update_failure}
        if len(addresses) > _MOST_ADDRESSES:
            raise InvalidArgument(f"email_notifications: at most {_MOST_ADDRESSES} addresses, not {len(addresses)}.")
        for address in sorted(addresses):
            if self._mail is None:
                raise FailedPrecondition("This server sends no e-mail; an administrator sets smtp.host.")
            self._mail.check_address(principal, address)

    def set_shadows(self, principal: Principal, name: str, shadows: Sequence[Shadow]) -> Endpoint:
        """Replace which served entities get copies, and count anew. Raises as `set_rate_limits`."""
        with self._database.write() as connection:
            endpoint = lock_endpoint(connection, principal, name)
            checked = check_shadows(shadows, endpoint.active or endpoint.pending)
            store.write_shadows(connection, endpoint.id, checked, now=utc_now())
            acts.changed(connection, principal.name, "shadow", "endpoint", name, shadows=len(checked))
            changed = lock_endpoint(connection, principal, name)
        self._runtime.shadow_reports.forget(changed.id)
        self._runtime.reset(changed)
        return changed

    def get_shadows(self, principal: Principal, name: str) -> list[tuple[Shadow, Tally]]:
        """Which served entities get copies, and how their answers compare on this server. Raises NotFound."""
        endpoint = get_endpoint(self._database, principal, name, Act.SEE)
        return [(each, self._runtime.shadow_reports.tally(endpoint.id, each.entity)) for each in endpoint.shadows]

    def recent_metrics(self, principal: Principal, name: str) -> Mapping[Key, Sequence[Moment]]:
        """What this server measured in the last half hour, by served entity and version. Raises NotFound."""
        return self._runtime.history.of(get_endpoint(self._database, principal, name, Act.SEE).name)

    def list_events(self, principal: Principal, name: str, *, limit: int) -> Sequence[Event]:
        """What happened to an endpoint, newest first. Raises NotFound."""
        endpoint = get_endpoint(self._database, principal, name, Act.SEE)
        self._runtime.events.flush()
        with self._database.read() as connection:
            return store.list_events(connection, endpoint.id, limit=min(limit, MAX_EVENTS))
