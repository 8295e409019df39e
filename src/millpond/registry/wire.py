"""JSON of the record, in Databricks' names where it has them.

Source: the Databricks SDK, `service/ml.py` (Activity, CommentObject, TransitionRequest, RegistryWebhook); MLflow,
`webhooks.proto`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millpond.kernel.clock import epoch_ms
from millpond.registry.domain import Activity, Live, Record, Request
from millpond.registry.evaluations import SeenEvaluation
from millpond.registry.gate_runs import GateRun, finding_json
from millpond.registry.job_starts import JobChange
from millpond.registry.messages import DATABRICKS, MLFLOW
from millpond.registry.policies import Policy
from millpond.registry.webhooks import Change, Delivery, Webhook
from millpond.tracking.evaluations import EvaluationData


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class CommentBody(_Body):
    """Comment on a version."""

    name: str
    version: str
    comment: str


class UpdateCommentBody(_Body):
    """Change a comment."""

    id: str
    comment: str


class TransitionBody(_Body):
    """Ask for a move between stages, or decide about it."""

    name: str
    version: str
    stage: str
    comment: str | None = None
    archive_existing_versions: bool = False


class MoveBody(_Body):
    """Move a version, ask for it, or decide about it: our own calls, which know aliases too."""

    name: str
    version: str = ""
    alias: str | None = None
    stage: str | None = None
    comment: str | None = None
    reason: str | None = None
    override: bool = False
    archive_existing_versions: bool = False
    creator: str | None = None


class PolicyBody(_Body):
    """Set the policy of a model, schema or catalog; an empty one takes it away."""

    securable_type: str
    name: str
    policy: str
    comment: str | None = None
    tables_may_follow: bool = False
    """Whether tables that it names may be made later; until then the check fails."""


class HttpUrlSpec(_Body):
    """Where a Databricks webhook is sent."""

    url: str | None = None
    enable_ssl_verification: bool | None = None
    secret: str | None = Field(default=None, repr=False)
    authorization: str | None = Field(default=None, repr=False)


class JobSpec(_Body):
    """The job that a Databricks webhook starts."""

    job_id: str | None = None
    access_token: str | None = Field(default=None, repr=False)
    workspace_url: str | None = None


class DatabricksWebhookBody(_Body):
    """Create or change a webhook as Databricks has it."""

    id: str = ""
    model_name: str | None = None
    events: tuple[str, ...] | None = None
    description: str | None = None
    status: str | None = None
    http_url_spec: HttpUrlSpec | None = None
    job_spec: JobSpec | None = None

    @property
    def change(self) -> Change:
        """What it says about the webhook."""
        spec = self.http_url_spec or HttpUrlSpec()
        return Change(
            description=self.description,
            url=spec.url,
            events=self.events,
            status=self.status,
            verify_tls=spec.enable_ssl_verification,
            secret=spec.secret,
            authorization=spec.authorization,
            job=None if self.job_spec is None else JobChange(**self.job_spec.model_dump()),
        )


class TestWebhookBody(_Body):
    """Send an example."""

    __test__ = False  # for pytest: no test, though its name begins so
    id: str
    event: str | None = None


class MlflowEvent(_Body):
    """An event as MLflow's protocol has it."""

    entity: str
    action: str

    @property
    def name(self) -> str:
        """As MLflow's documentation writes it: `model_version.created`."""
        return f"{self.entity.lower()}.{self.action.lower()}"


class MlflowWebhookBody(_Body):
    """Create or change a webhook as MLflow has it."""

    name: str | None = None
    description: str | None = None
    url: str | None = None
    events: tuple[MlflowEvent, ...] = ()
    secret: str | None = Field(default=None, repr=False)
    status: str | None = None

    @property
    def change(self) -> Change:
        """What it says about the webhook; no event is no change, as protocol buffers cannot tell."""
        return Change(
            name=self.name,
            description=self.description,
            url=self.url,
            events=tuple(event.name for event in self.events) or None,
            status=self.status,
            secret=self.secret,
        )


class MlflowTestBody(_Body):
    """Send an example."""

    event: MlflowEvent | None = None


def activity_json(activity: Activity) -> dict[str, Any]:
    """Databricks' Activity, with what ours know besides."""
    stages = {"from_stage": activity.previous, "to_stage": activity.target} if activity.target_kind == "stage" else {}
    aliases = {"alias": activity.target, "from_version": activity.previous} if activity.target_kind == "alias" else {}
    return {
        "id": activity.id,
        "activity_type": activity.type.value,
        "name": activity.model,
        "version": "" if activity.version is None else str(activity.version),
        "user_id": activity.actor,
        "client": activity.client,
        "comment": activity.comment,
        "system_comment": activity.system_comment,
        "creation_timestamp": epoch_ms(activity.at),
        "last_updated_timestamp": epoch_ms(activity.updated_at),
        "evidence": activity.evidence,
        **stages,
        **aliases,
    }


def comment_json(activity: Activity, *, own: bool) -> dict[str, Any]:
    """Databricks' CommentObject."""
    return {
        "id": activity.id,
        "user_id": activity.actor,
        "comment": activity.comment,
        "creation_timestamp": epoch_ms(activity.at),
        "last_updated_timestamp": epoch_ms(activity.updated_at),
        "available_actions": ["EDIT_COMMENT", "DELETE_COMMENT"] if own else [],
    }


def request_json(request: Request, actions: Sequence[str] = ()) -> dict[str, Any]:
    """Databricks' TransitionRequest, and as much of its Activity as the SDK reads in lists."""
    goal = {"to_stage": request.target.name} if request.target.kind == "stage" else {"alias": request.target.name}
    return {
        "id": request.id,
        "activity_type": "REQUESTED_TRANSITION",
        "version": str(request.version),
        "user_id": request.creator,
        "comment": request.comment,
        "creation_timestamp": epoch_ms(request.created_at),
        "last_updated_timestamp": epoch_ms(request.created_at),
        "available_actions": list(actions),
        "approved_by": list(request.approvers),
        **goal,
    }


def record_json(record: Record) -> dict[str, Any]:
    """A model's history."""
    body: dict[str, Any] = {
        "name": record.model,
        "live": [_live_json(each) for each in record.live],
        "moves": [activity_json(move) for move in record.moves],
    }
    if record.at is not None:
        body["at"] = epoch_ms(record.at)
    return body | ({"next_page_token": record.next_page_token} if record.next_page_token else {})


def _live_json(live: Live) -> dict[str, Any]:
    served = [{"endpoint": each.endpoint, "since": epoch_ms(each.since), "until": _ms(each.until)}
              for each in live.served_by]  # fmt: skip
    return {"target": f"{live.move.target_kind}:{live.move.target}", **activity_json(live.move), "served_by": served}


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else epoch_ms(moment)


def policy_json(policy: Policy) -> dict[str, Any]:
    """One version of a policy."""
    return {
        "scope": policy.scope,
        "version": policy.version,
        "policy": policy.body,
        "author": policy.author,
        "comment": policy.comment,
        "created_at": epoch_ms(policy.created_at),
    }


def gate_run_json(run: GateRun) -> dict[str, Any]:
    """A gate run with its findings."""
    return {
        "id": run.id,
        "name": run.model,
        "version": str(run.version),
        "target": str(run.target),
        "champion": None if run.champion is None else str(run.champion),
        "policy_version": run.policy_version,
        "state": run.state,
        "findings": [finding_json(finding) for finding in run.findings],
        "requested_by": run.requested_by,
        "created_at": epoch_ms(run.created_at),
        "ended_at": _ms(run.ended_at),
    }


def evaluation_json(seen: SeenEvaluation) -> dict[str, Any]:
    """An evaluation of a version."""
    found = seen.evaluation
    return {
        "run_id": found.run_id,
        "run_name": found.run_name,
        "experiment_id": found.experiment_id,
        "made_by": found.maker,
        "status": found.status,
        "at": epoch_ms(found.at),
        "metrics": dict(found.metrics),
        "datasets": [_data_json(each) for each in found.datasets],
        "artifacts": list(seen.artifacts),
    }


def _data_json(data: EvaluationData) -> dict[str, Any]:
    table = {"table": data.table, "table_version": data.table_version} if data.table else {}
    return {"name": data.name, "digest": data.digest, **table}


def webhook_json(webhook: Webhook) -> dict[str, Any]:
    """A webhook in the shape of whose it is; secrets stay here."""
    times: dict[str, Any] = {
        "creation_timestamp": epoch_ms(webhook.created_at),
        "last_updated_timestamp": epoch_ms(webhook.updated_at),
    }
    if webhook.dialect == MLFLOW:
        return {
            "webhook_id": webhook.id, "name": webhook.name, "description": webhook.description, "url": webhook.url,
            "events": [_event_json(event) for event in webhook.events], "status": webhook.status, **times,
        }  # fmt: skip
    assert webhook.dialect == DATABRICKS
    http = {"http_url_spec": {"url": webhook.url, "enable_ssl_verification": webhook.verify_tls}}
    spec = {"job_spec": {"job_id": webhook.job_id}} if webhook.job_id else http
    model = {"model_name": webhook.model} if webhook.model else {}
    return {
        "id": webhook.id, "description": webhook.description, "events": list(webhook.events), "status": webhook.status,
        **spec, **model, **times,
    }  # fmt: skip


def _event_json(event: str) -> dict[str, str]:
    entity, _, action = event.partition(".")
    return {"entity": entity.upper(), "action": action.upper()}


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    """What became of one message."""
    return {
        "id": delivery.id, "event": delivery.event, "state": delivery.state, "attempts": delivery.attempts,
        "status_code": delivery.status_code, "error": delivery.error, "created_at": epoch_ms(delivery.created_at),
        "updated_at": epoch_ms(delivery.updated_at),
    }  # fmt: skip
