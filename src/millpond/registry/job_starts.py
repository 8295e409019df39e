"""Webhooks that start a job instead of a request, as `job_spec` has them."""

import json
from dataclasses import dataclass, field
from typing import Protocol

from millpond.kernel.errors import InvalidArgument, MillpondError, NotImplementedHere
from millpond.notifications.posting import Answer, Unreachable


class JobStarter(Protocol):
    """Who starts jobs; they are on a floor above."""

    def check(self, job_id: str, access_token: str) -> None:
        """Pass if whoever the token is of may run the job. Raises InvalidArgument, NotFound, PermissionDenied."""

    def start(self, job_id: str, access_token: str, message: str, delivery_id: str) -> int:
        """The run's id, the same for the same delivery; the message is the job's parameter `event_message`, if it has
        one. Raises MillpondError."""


@dataclass(frozen=True, kw_only=True)
class JobChange:
    """What a webhook is to start; None leaves it."""

    job_id: str | None = None
    access_token: str | None = field(default=None, repr=False)
    workspace_url: str | None = None


def check_token(change: JobChange, job_id: str) -> None:
    """Pass if a change brings a token for another job than `job_id`: a kept one was given for that job only.

    Raises InvalidArgument.
    """
    if change.access_token == "" or (change.job_id not in (None, job_id) and change.access_token is None):
        raise InvalidArgument("job_spec needs an access_token: that of whoever is to run the job.")


def check_job(jobs: JobStarter, change: JobChange, job_id: str, access_token: str, base_url: str) -> None:
    """Pass if a webhook may start a job with a token. Raises InvalidArgument, NotFound, PermissionDenied."""
    if change.workspace_url and change.workspace_url.rstrip("/") != base_url.rstrip("/"):
        raise NotImplementedHere(f"job_spec.workspace_url is {change.workspace_url[:200]}; jobs are started here only.")
    if not job_id or not access_token:
        raise InvalidArgument("job_spec needs a job_id and an access_token with which the job is run.")
    jobs.check(job_id, access_token)


def started(jobs: JobStarter, job_id: str, access_token: str, message: str, delivery_id: str) -> Answer:
    """Start it. Raises Unreachable where it cannot be started, so that it is tried again."""
    try:
        run_id = jobs.start(job_id, access_token, message, delivery_id)
    except MillpondError as error:
        raise Unreachable(error.message) from error
    return Answer(status=200, body=json.dumps({"run_id": run_id}))
