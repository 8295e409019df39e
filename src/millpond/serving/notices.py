"""Notices about how updates of endpoints end."""

from sqlalchemy import Connection

from millpond.notifications.domain import Notice, Target
from millpond.notifications.outbox import put
from millpond.serving.domain import Config, Endpoint


def announce(connection: Connection, endpoint: Endpoint, config: Config, problem: str | None) -> None:
    """Let those know who want to, in the transaction in which an update ends; without a problem it went well."""
    asked = endpoint.notifications
    listening = asked.on_update_success if problem is None else asked.on_update_failure
    outcome = "is updated" if problem is None else "could not be updated"
    models = "\n".join(f"{each.name}: {each.model.name} {each.model.version}".rstrip() for each in config.entities)
    text = f"Configuration {config.version} of endpoint {endpoint.name} {outcome}.\n\n{models}\n\n{problem or ''}"
    notice = Notice(
        event="endpoint.updated" if problem is None else "endpoint.update_failed",
        subject=f"Endpoint {endpoint.name} {outcome}",
        text=text.rstrip(),
        body={"endpoint": endpoint.name, "config_version": config.version},
        path=f"/serving/{endpoint.name}",
    )
    put(connection, [Target(address=address) for address in listening], notice, f"endpoint:{endpoint.id}")


def announce_canary(connection: Connection, endpoint: Endpoint, text: str, *, ended_well: bool) -> None:
    """Let the same know how a canary ended, in the transaction in which it does."""
    asked = endpoint.notifications
    listening = asked.on_update_success if ended_well else asked.on_update_failure
    notice = Notice(
        event="endpoint.canary_completed" if ended_well else "endpoint.canary_ended",
        subject=f"Endpoint {endpoint.name}: the canary {'is complete' if ended_well else 'did not take over'}",
        text=text,
        body={"endpoint": endpoint.name},
        path=f"/serving/{endpoint.name}",
    )
    put(connection, [Target(address=address) for address in listening], notice, f"endpoint:{endpoint.id}")
