"""Endpoints go where the aliases and stages point that their served entities name.

A round looks at what all references point to now, in one short read, so that it does not matter who moved them, through
which door, or whether this server ran then. What differs becomes a configuration that is brought up beside the active
one, as an update is; one that does not load leaves the active one serving.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from millpond.identity import acts
from millpond.identity.domain import SYSTEM, Principal
from millpond.journal import calls
from millpond.journal.calls import Call
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError
from millpond.kernel.logs import get_logger
from millpond.serving import store
from millpond.serving.domain import CREATING, Config, Endpoint, ModelVersion, ServedEntity, Update
from millpond.serving.events import event
from millpond.serving.ports import Deployed, ModelSource, Named
from millpond.serving.references import Asked
from millpond.serving.resolving import Resolver
from millpond.serving.variables import Variables

log = get_logger(__name__)
_ROUNDS_TO_RETRY = 30


def named(entity: ServedEntity) -> Named | None:
    """The model and what names its version; None for a version that is served whatever moves."""
    return (entity.model.name, entity.reference) if entity.reference else None


@dataclass(frozen=True, kw_only=True)
class Course:
    """Where an endpoint has to go: the numbers of versions by entity, and what keeps entities where they are."""

    versions: Mapping[str, str]
    notes: Mapping[str, str]


def course(endpoint: Endpoint, heads: Mapping[Named, str]) -> Course | None:
    """Where what the references name now takes an endpoint; None where it is there, on its way, or has tried."""
    base = endpoint.active or endpoint.pending
    if base is None or endpoint.update is Update.IN_PROGRESS:
        return None
    following = [(entity, name) for entity in base.entities if (name := named(entity))]
    versions = {entity.name: heads.get(name, entity.model.version) for entity, name in following}
    notes = {entity.name: "" if name in heads else _gone(entity) for entity, name in following}
    told = all(entity.reference_note == notes[entity.name] for entity, _ in following)
    return None if _is_there(endpoint, base, versions) and told else Course(versions=versions, notes=notes)


def _is_there(endpoint: Endpoint, base: Config, versions: Mapping[str, str]) -> bool:
    pending = endpoint.pending
    failed = pending is not None and pending is not base and pending.followed
    return all(_serves(config, versions) for config in ([pending] if failed and pending else [base]))


def _serves(config: Config, versions: Mapping[str, str]) -> bool:
    return all(versions.get(each.name, each.model.version) == each.model.version for each in config.entities)


def _gone(entity: ServedEntity) -> str:
    words = entity.reference.words if entity.reference else ""
    return f"No version has {words} any more; version {entity.model.version} stays."


class Follower:
    """Takes endpoints where their references point. All of it blocks."""

    def __init__(
        self,
        *,
        database: Database,
        source: ModelSource,
        resolver: Resolver,
        variables: Variables,
        find_principal: Callable[[str], Principal],
        deployed: Deployed,
    ) -> None:
        self._database = database
        self._source = source
        self._resolver = resolver
        self._variables = variables
        self._find_principal = find_principal
        self._deployed = deployed
        self._resting: dict[str, int] = {}
        """After an error that nobody foresaw, for how many rounds nothing is tried."""

    def look(self) -> list[str]:
        """One round; returns the ids of the endpoints that go somewhere."""
        with self._database.read() as connection:
            following = store.list_following(connection)
        asked = {name for endpoint in following for config in _configs(endpoint)
                 for entity in config.entities if (name := named(entity))}  # fmt: skip
        heads = self._source.heads(asked) if asked else {}
        return [endpoint.id for endpoint in following if self._try(endpoint, heads)]

    def _try(self, endpoint: Endpoint, heads: Mapping[Named, str]) -> bool:
        if self._resting.get(endpoint.id, 0):
            self._resting[endpoint.id] -= 1
            return False
        try:
            return self._follow(endpoint, heads)
        except Exception as error:  # the boundary of a work item: one endpoint's files keep nobody else's from moving
            self._resting[endpoint.id] = _ROUNDS_TO_RETRY
            log.error("an endpoint could not be followed", endpoint=endpoint.name, exc_info=error)
            return False

    def _follow(self, endpoint: Endpoint, heads: Mapping[Named, str]) -> bool:
        way = course(endpoint, heads)
        if way is None:
            return False
        base = endpoint.active or endpoint.pending
        assert base is not None, "it has a course"
        entities = tuple(self._moved(entity, way) for entity in base.entities)
        if _models(entities) == _models(base.entities) and not _left_behind(endpoint, base):
            self._note(endpoint, base, entities)
            return False
        return self._go(endpoint, base, entities)

    def _moved(self, entity: ServedEntity, way: Course) -> ServedEntity:
        """The entity as it has to be served, or as it is with a note of what keeps it there."""
        if entity.reference is None:
            return replace(entity, state=CREATING)
        note = way.notes[entity.name]
        model = entity.model
        version = way.versions[entity.name]
        if version != model.version:
            model, note = self._resolved(entity, version)
        return replace(entity, model=model, reference_note=note, state=CREATING)

    def _resolved(self, entity: ServedEntity, version: str) -> tuple[ModelVersion, str]:
        """With the rights that who made the configuration has now.

        Where they opened the network for it, exactly the version for which who moved the reference might have, too.
        """
        name = named(entity)
        assert name is not None, "it follows"
        asked = Asked(model=entity.model.name, version="", reference=entity.reference)
        try:
            if entity.asks_for_network:
                self._variables.check_follows(entity, version, self._source.moved_by(name, version))
                asked = Asked(model=entity.model.name, version=version)
            return self._resolver.resolve(self._find_principal(entity.creator), asked), ""
        except MillpondError as error:
            return entity.model, f"Version {entity.model.version} stays: {error.message}"

    def _note(self, endpoint: Endpoint, base: Config, entities: tuple[ServedEntity, ...]) -> None:
        notes = {each.name: each.reference_note for each in entities}
        if notes != {each.name: each.reference_note for each in base.entities}:
            with self._database.write() as connection:
                store.write_reference_notes(connection, endpoint.id, base.version, notes)

    def _go(self, endpoint: Endpoint, base: Config, entities: tuple[ServedEntity, ...]) -> bool:
        flows = self._resolver.flows(entities)
        moved = [new for new, old in zip(entities, base.entities, strict=True) if new.model != old.model]
        actor = self._find_principal(moved[0].creator) if moved else SYSTEM
        call = Call(door="background", act="follow", kind="endpoint", name=endpoint.name, actor=actor.name)
        with calls.during(call), self._database.write() as connection:
            now = store.lock_endpoint(connection, name=endpoint.name)
            if now is None or _stage_of(now) != _stage_of(endpoint):
                return False  # somebody was faster; the next round looks again
            version = store.next_version(connection, endpoint.id)
            config = replace(base, version=version, entities=entities, created_at=utc_now(), followed=True)
            store.replace_pending(connection, endpoint.id, config, now=config.created_at)
            self._deployed(connection, actor, endpoint, config.entities, flows)
            models = ", ".join(f"{each.model.name} version {each.model.version}" for each in moved)
            store.add_events(connection, [(endpoint.id, event("", "follows", f"Configuration {version}. {models}"))])
            acts.changed(
                connection, actor.name, "follow", "endpoint", endpoint.name, config_version=version, models=models
            )
            call.end(calls.OK)
        return True


def _configs(endpoint: Endpoint) -> list[Config]:
    return [config for config in (endpoint.active, endpoint.pending) if config is not None]


def _stage_of(endpoint: Endpoint) -> tuple[str, Update, list[int]]:
    return endpoint.id, endpoint.update, [config.version for config in _configs(endpoint)]


def _models(entities: tuple[ServedEntity, ...]) -> list[ModelVersion]:
    return [entity.model for entity in entities]


def _left_behind(endpoint: Endpoint, base: Config) -> bool:
    """Whether a version that does not load is shown as failed, though no reference points there any more."""
    return endpoint.pending is not None and endpoint.pending is not base and endpoint.pending.followed
