"""Looks at what triggers watch, with the rights of whom the job runs as, and starts runs when it has changed.

A look reads files and logs, so it is made outside of transactions; what it saw counts if nobody else looked meanwhile.
A run is started in the transaction that notes what it is for, so whatever is killed, no change is missed or told twice.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from millpond.catalog import locations
from millpond.catalog.delta import has_version, newest_commit
from millpond.catalog.domain import ObjectName, SchemaName, Table
from millpond.catalog.files import Files
from millpond.catalog.service import CatalogService
from millpond.identity.access import Act, allows, require, require_admin
from millpond.identity.domain import Principal
from millpond.jobs import store, watch_store
from millpond.jobs.domain import Job
from millpond.jobs.record import fire
from millpond.jobs.starting import has_room
from millpond.jobs.triggers import RUN_TRIGGERS, WATCHING, Trigger, When, trigger_of
from millpond.jobs.watching import Seen, Watch, after_look, described, is_of_scope, news_for_run, ripe_at, with_update
from millpond.kernel.clock import epoch_us, rfc3339, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, MillpondError
from millpond.kernel.logs import get_logger, mask_secrets
from millpond.kernel.rounds import rounds
from millpond.kernel.settings import S3Settings
from millpond.tracking.watch import Happening, RegistryEvent

MOST_FILES = 10_000
"""Below a directory that is watched. Source: Databricks' limit without file events."""
_ROUND_S = 0.5
_AT_ONCE = 20
_CONDITIONS = {
    Happening.MODEL_CREATED: "MODEL_CREATED",
    Happening.VERSION_CREATED: "MODEL_VERSION_READY",
    Happening.ALIAS_SET: "MODEL_ALIAS_SET",
}

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Watches for all jobs. Several servers on one PostgreSQL may do so at once."""

    database: Database
    files: Files
    catalog: CatalogService
    s3: S3Settings
    principal_named: Callable[[str], Principal]
    moved: Callable[..., None]
    poll: timedelta
    """Between two looks of one trigger."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Watch while the block runs."""
        with rounds(self.round, name="job-watch", interval_s=_ROUND_S, log=log, failure="triggers were not looked at"):
            yield

    def round(self) -> None:
        """Look for each trigger whose time has come."""
        for job, watch in self._claimed(utc_now()):
            try:
                self._look_for(job, watch)
            except Exception as error:  # the boundary of one look, whose table's log may be anybody's
                self._failed(job, watch, error)

    def begun(self, job_id: int, run_as: str, trigger: Trigger | None) -> Watch | None:
        """A new watch, from what there is now; None for triggers that watch nothing.

        Raises NotFound, PermissionDenied and the like for what whoever the job runs as may not watch.
        """
        if trigger is None or trigger.paused or trigger.kind not in WATCHING:
            return None
        return Watch(job_id=job_id, known=self._look(self.principal_named(run_as), trigger, {}))

    # -- looks --------------------------------------------------------------------------------------------------------

    def _claimed(self, now: datetime) -> list[tuple[Job, Watch]]:
        with self.database.read() as connection:
            if not store.due_jobs(connection, now, watching=True):
                return []
        with self.database.write() as connection:
            claimed = []
            for job in store.due_jobs(connection, now, watching=True, lock=True)[:_AT_ONCE]:
                store.change_job(connection, job.id, next_fire_at=now + self.poll)
                if (watch := watch_store.find_watch(connection, job.id, lock=True)) is not None:
                    watch_store.change_watch(connection, watch, replace(watch, looked_at=now))
                    claimed.append((job, watch))
            return claimed

    def _look_for(self, job: Job, watch: Watch) -> None:
        trigger = trigger_of(job.settings)
        if trigger is None:
            return
        seen = self._look(self.principal_named(job.run_as), trigger, watch.known)
        self._note(job, watch, partial(self._decided, trigger=trigger, seen=seen))

    def _failed(self, job: Job, watch: Watch, error: Exception) -> None:
        told = error.message if isinstance(error, MillpondError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, MillpondError | OSError):
            log.error("a trigger could not be looked at", job=job.id, error=mask_secrets(repr(error)), exc_info=error)
            told = f"The look failed with {type(error).__name__}; the server's log says more."
        self._note(job, watch, lambda _, found: replace(found, failed_at=utc_now(), error=told[:2000]))

    def _note(self, seen_job: Job, seen_watch: Watch, change: Callable[["_Locked", Watch], Watch]) -> None:
        """Change a watch, unless the job or the watch is another one by now."""
        with self.database.write() as connection:
            job = store.find_job(connection, seen_job.id, lock=True)
            watch = watch_store.find_watch(connection, seen_job.id, lock=True)
            if job is None or watch is None or watch.serial != seen_watch.serial or not _watches_same(job, seen_job):
                return
            locked = _Locked(connection=connection, job=job)
            after = change(locked, watch)
            if after != watch:
                watch_store.change_watch(connection, watch, replace(after, serial=watch.serial + 1))
        self.moved(*locked.started)

    def _decided(self, locked: "_Locked", watch: Watch, *, trigger: Trigger, seen: Seen) -> Watch:
        """What is known now; a run is started where it is time to."""
        now = utc_now()
        if trigger.kind is not When.MODELS:
            watch = after_look(watch, trigger.kind, seen, now)
        else:
            watch = self._only_permitted(locked, watch)
        ripe = ripe_at(trigger, watch)
        if ripe is None or ripe > now:
            self._look_again(locked, trigger, ripe)
            return replace(watch, outcome=described(trigger, watch))
        if not has_room(locked.connection, locked.job):
            return replace(watch, outcome="The job has as many runs as it may; the trigger waits for one to end.")
        told, rest = news_for_run(trigger, watch)
        token = f"watch:{watch.job_id}:{watch.serial}:{epoch_us(watch.changed_at or now)}"
        run_id = fire(locked.connection, locked.job, RUN_TRIGGERS[trigger.kind], now, token, told)
        locked.started.append(run_id)
        watch = replace(watch, pending=rest, fired_at=now, run_id=run_id, outcome=described(trigger, watch))
        self._look_again(locked, trigger, ripe_at(trigger, watch))
        return watch

    def _look_again(self, locked: "_Locked", trigger: Trigger, ripe: datetime | None) -> None:
        """Models tell of themselves, so nobody looks for them until then."""
        if trigger.kind is When.MODELS:
            store.change_job(locked.connection, locked.job.id, next_fire_at=ripe)

    def _look(self, principal: Principal, trigger: Trigger, known: Seen) -> Seen:
        if trigger.kind is When.FILES:
            return dict.fromkeys(self._digests(principal, trigger.body["url"]), "")
        if trigger.kind is When.TABLES:
            names = [name.lower() for name in trigger.body["table_names"]]
            return {name: self._version(principal, name, known.get(name, "")) for name in names}
        self._check_models(principal, trigger.body.get("securable_name") or "")
        return {}

    def _digests(self, principal: Principal, path: str) -> set[str]:
        """Of the paths of all files below a directory. Raises FailedPrecondition for too many."""
        found: set[str] = set()
        below = [path.rstrip("/")]
        while below:
            place, token = below.pop(), None
            while True:
                listing = self.files.list_directory(principal, place, page_token=token)
                for entry in listing.entries:
                    inner = f"{place}/{entry.name}"
                    if entry.is_directory:
                        below.append(inner)
                    else:
                        found.add(hashlib.blake2b(inner.encode(), digest_size=8).hexdigest())
                if len(found) + len(below) > MOST_FILES:
                    raise FailedPrecondition(f"{path} has more than {MOST_FILES} files; watch a directory below it.")
                if (token := listing.next_token) is None:
                    break
        return found

    def _version(self, principal: Principal, name: str, known: str) -> str:
        """The newest version of a table and when it was committed."""
        table = self.catalog.get_table(principal, ObjectName.of_full_name(name))
        require(principal, Act.READ, table.securable)
        if table.data_source_format != "DELTA":
            raise InvalidArgument(f"'{name}' is no Delta table, so it has no versions to watch.")
        if known and _is_still(table, int(known.partition(" ")[0])):
            return known
        version, committed_at = newest_commit(table.storage_location, self.s3)
        return f"{version} {rfc3339(committed_at)}"

    # -- models -------------------------------------------------------------------------------------------------------

    def _check_models(self, principal: Principal, scope: str) -> None:
        if not scope:
            require_admin(principal, "watch all models")
        elif scope.count(".") == 2:
            with self.database.read() as connection:
                self.catalog.model_in(connection, principal, ObjectName.of_full_name(scope), act=Act.READ)
        else:
            catalog, _, schema = scope.partition(".")
            self.catalog.get_schema(principal, SchemaName(catalog, schema))

    def model_changed(self, connection: Connection, event: RegistryEvent) -> None:
        """Something happened to a registered model: whoever watches it is told, in the same transaction."""
        condition = _CONDITIONS.get(event.what)
        if condition is None or event.model.count(".") != 2:
            return
        update: dict[str, Any] = {"full_name": event.model}
        if event.version is not None:
            update["version"] = event.version
        if condition == "MODEL_ALIAS_SET":
            update["alias_name"] = event.name
        now = utc_now()
        for seen in store.jobs_watching(connection, When.MODELS.value):
            if not _is_for(seen, condition, event):
                continue
            job = store.find_job(connection, seen.id, lock=True)  # before its watch, as all others do
            trigger = None if job is None or not _is_for(job, condition, event) else trigger_of(job.settings)
            if job is None or trigger is None:
                continue
            if (watch := watch_store.find_watch(connection, job.id, lock=True)) is not None:
                after = replace(with_update(watch, store.new_number(), update, now), serial=watch.serial + 1)
                watch_store.change_watch(connection, watch, after)
                store.change_job(connection, job.id, next_fire_at=ripe_at(trigger, after))

    def _only_permitted(self, locked: "_Locked", watch: Watch) -> Watch:
        """Without the updates of models that whoever the job runs as may not use."""
        principal = self.principal_named(locked.job.run_as)

        def may(update: Mapping[str, Any]) -> bool:
            model = self.catalog.find_model_in(locked.connection, ObjectName.of_full_name(update["full_name"]))
            return model is not None and allows(principal, Act.READ, model.securable)

        return replace(watch, pending={number: each for number, each in watch.pending.items() if may(each)})


@dataclass(frozen=True, kw_only=True)
class _Locked:
    """A job under lock, and the runs that were started for it meanwhile."""

    connection: Connection
    job: Job
    started: list[int] = field(default_factory=list)


def _is_for(job: Job, condition: str, event: RegistryEvent) -> bool:
    """Whether a job's trigger waits for something that happened to a model."""
    trigger = trigger_of(job.settings)
    return (
        trigger is not None and trigger.kind is When.MODELS and is_of_scope(trigger, condition, event.model, event.name)
    )


def _watches_same(job: Job, before: Job) -> bool:
    """Whether a look for a job as it was counts for it now: the watch of another trigger begins to count anew."""
    return (job.run_as, trigger_of(job.settings)) == (before.run_as, trigger_of(before.settings))


def _is_still(table: Table, version: int) -> bool:
    """Whether a version is the newest of a table on this machine's disk, told without reading its log."""
    location = table.storage_location
    return locations.is_local(location) and has_version(location, version) and not has_version(location, version + 1)
