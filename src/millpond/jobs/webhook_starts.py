"""Starts jobs for the registry's webhooks, with the rights of whoever gave the webhook an access token."""

from collections.abc import Callable
from dataclasses import dataclass

from millpond.identity.domain import Principal
from millpond.jobs.service import JobService
from millpond.kernel.errors import InvalidArgument, PermissionDenied, Unauthenticated

MESSAGE = "event_message"
"""The job parameter that holds what happened. Source: "MLflow Model Registry Webhooks" of Databricks' documentation."""


@dataclass(frozen=True, kw_only=True)
class WebhookStarts:
    """The registry's `JobStarter`."""

    service: JobService
    principal_of: Callable[[str], Principal]
    """From an access token that is good for running jobs. Raises Unauthenticated, PermissionDenied."""

    def check(self, job_id: str, access_token: str) -> None:
        """Pass if whoever the token is of may run the job."""
        self.service.check_runnable(self._principal(access_token), _number(job_id))

    def start(self, job_id: str, access_token: str, message: str, delivery_id: str) -> int:
        """Start it once for a delivery, however often that is tried."""
        principal, number = self._principal(access_token), _number(job_id)
        known = self.service.check_runnable(principal, number).settings.get("parameters", ())
        takes = any(each["name"] == MESSAGE for each in known)
        return self.service.run_now(
            principal, number, parameters={MESSAGE: message} if takes else None, token=f"webhook:{delivery_id}"
        )

    def _principal(self, access_token: str) -> Principal:
        try:
            return self.principal_of(access_token)
        except (Unauthenticated, PermissionDenied) as error:
            raise InvalidArgument(f"job_spec.access_token: {error.message}") from error


def _number(job_id: str) -> int:
    if not job_id.isdecimal() or len(job_id) > 18:
        raise InvalidArgument(f"job_spec.job_id is '{job_id[:40]}', which is no number of a job.")
    return int(job_id)
