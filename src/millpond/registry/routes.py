"""Routes of the record: those of Databricks' workspace registry that MLflow lacks, MLflow's webhooks, and our own."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from millpond.identity.access import Securable
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.errors import InvalidArgument
from millpond.notifications.posting import Unreachable
from millpond.registry.domain import target_of
from millpond.registry.evaluations import Evaluations
from millpond.registry.gates import Gates, check_scope
from millpond.registry.messages import DATABRICKS, MLFLOW
from millpond.registry.service import RegistryService
from millpond.registry.webhooks import Webhook, WebhookService
from millpond.registry.wire import (
    CommentBody,
    DatabricksWebhookBody,
    MlflowTestBody,
    MlflowWebhookBody,
    MoveBody,
    PolicyBody,
    TestWebhookBody,
    TransitionBody,
    UpdateCommentBody,
    activity_json,
    comment_json,
    delivery_json,
    evaluation_json,
    gate_run_json,
    policy_json,
    record_json,
    request_json,
    webhook_json,
)
from millpond.tracking.watch import Target

Asker = Annotated[Principal, Depends(current_principal)]
Scope = Callable[[Principal, str, str], Securable]
"""The model, schema or catalog of a type and a name."""
_MLFLOW = "/api/2.0/mlflow"
_OURS = "/api/millpond/registry"


def registry_router(service: RegistryService, gates: Gates, webhooks: WebhookService, scope: Scope) -> APIRouter:
    """All of them; they stand before MLflow's own."""
    router = APIRouter()
    _comments(router, service)
    _transition_requests(router, service)
    _databricks_webhooks(router, webhooks)
    _mlflow_webhooks(router, webhooks, f"{_MLFLOW}/webhooks")
    for page in ("/ajax-api", "/ml/ajax-api"):  # as MLflow's own pages ask
        _mlflow_webhooks(router, webhooks, f"{page}/2.0/mlflow/webhooks")
    _history(router, service)
    _requests(router, service)
    _gates(router, gates, scope)
    return router


def _comments(router: APIRouter, service: RegistryService) -> None:
    @router.post(f"{_MLFLOW}/comments/create")
    def create(principal: Asker, body: CommentBody) -> dict[str, Any]:
        made = service.create_comment(principal, body.name, body.version, body.comment)
        return {"comment": comment_json(made, own=True)}

    @router.patch(f"{_MLFLOW}/comments/update")
    def update(principal: Asker, body: UpdateCommentBody) -> dict[str, Any]:
        return {"comment": comment_json(service.update_comment(principal, body.id, body.comment), own=True)}

    @router.delete(f"{_MLFLOW}/comments/delete")
    def delete(principal: Asker, id: str) -> dict[str, Any]:
        service.delete_comment(principal, id)
        return {}


def _transition_requests(router: APIRouter, service: RegistryService) -> None:
    prefix = f"{_MLFLOW}/transition-requests"

    @router.post(f"{prefix}/create")
    def create(principal: Asker, body: TransitionBody) -> dict[str, Any]:
        target = target_of("stage", body.stage)
        made = service.create_request(principal, body.name, body.version, target, comment=body.comment)
        return {"request": request_json(made, service.actions_on(principal, body.name, made))}

    @router.post(f"{prefix}/approve")
    def approve(principal: Asker, body: TransitionBody) -> dict[str, Any]:
        made = service.approve_request(
            principal, body.name, body.version, target_of("stage", body.stage), comment=body.comment,
            archive_existing=body.archive_existing_versions,
        )  # fmt: skip
        return {"activity": activity_json(made)}

    @router.post(f"{prefix}/reject")
    def reject(principal: Asker, body: TransitionBody) -> dict[str, Any]:
        target = target_of("stage", body.stage)
        made = service.reject_request(principal, body.name, body.version, target, comment=body.comment)
        return {"activity": activity_json(made)}

    @router.delete(f"{prefix}/delete")
    def cancel(
        principal: Asker, name: str, version: str, stage: str, creator: str, comment: str | None = None
    ) -> dict[str, Any]:
        target = target_of("stage", stage)
        made = service.cancel_request(principal, name, version, target, creator=creator, comment=comment)
        return {"activity": activity_json(made)}

    @router.get(f"{prefix}/list")
    def list_requests(principal: Asker, name: str, version: str) -> dict[str, Any]:
        found = service.list_requests(principal, name, version)
        staged = [request for request in found if request.target.kind == "stage"]
        return {"requests": [request_json(each, service.actions_on(principal, name, each)) for each in staged]}


def _databricks_webhooks(router: APIRouter, webhooks: WebhookService) -> None:
    prefix = f"{_MLFLOW}/registry-webhooks"

    @router.post(f"{prefix}/create")
    def create(principal: Asker, body: DatabricksWebhookBody) -> dict[str, Any]:
        made = webhooks.create(principal, DATABRICKS, model=body.model_name, change=body.change)
        return {"webhook": webhook_json(made)}

    @router.get(f"{prefix}/list")
    def list_webhooks(principal: Asker, model_name: str | None = None, events: str | None = None) -> dict[str, Any]:
        found = webhooks.list(principal, DATABRICKS, model=model_name)
        wanted = set(events.split(",")) if events else None
        shown = [each for each in found if wanted is None or wanted & set(each.events)]
        return {"webhooks": [webhook_json(each) for each in shown]}

    @router.patch(f"{prefix}/update")
    def update(principal: Asker, body: DatabricksWebhookBody) -> dict[str, Any]:
        return {"webhook": webhook_json(webhooks.update(principal, DATABRICKS, body.id, body.change))}

    @router.delete(f"{prefix}/delete")
    def delete(principal: Asker, id: str) -> dict[str, Any]:
        webhooks.delete(principal, DATABRICKS, id)
        return {}

    @router.post(f"{prefix}/test")
    def test(principal: Asker, body: TestWebhookBody) -> dict[str, Any]:
        try:
            answer = webhooks.test(principal, DATABRICKS, body.id, body.event)
        except Unreachable as error:
            raise InvalidArgument(str(error)) from error
        return {"status_code": answer.status, "body": answer.body}


def _mlflow_webhooks(router: APIRouter, webhooks: WebhookService, prefix: str) -> None:
    def told(webhook: Webhook) -> dict[str, Any]:
        return {"webhook": webhook_json(webhook)}

    @router.post(prefix)
    def create(principal: Asker, body: MlflowWebhookBody) -> dict[str, Any]:
        if not body.name:
            raise InvalidArgument("A webhook needs a name.")
        return told(webhooks.create(principal, MLFLOW, change=body.change))

    @router.get(prefix)
    def list_webhooks(principal: Asker) -> dict[str, Any]:
        return {"webhooks": [webhook_json(each) for each in webhooks.list(principal, MLFLOW)]}

    @router.get(f"{prefix}/{{webhook_id}}")
    def get(principal: Asker, webhook_id: str) -> dict[str, Any]:
        return told(webhooks.get(principal, MLFLOW, webhook_id))

    @router.patch(f"{prefix}/{{webhook_id}}")
    def update(principal: Asker, webhook_id: str, body: MlflowWebhookBody) -> dict[str, Any]:
        return told(webhooks.update(principal, MLFLOW, webhook_id, body.change))

    @router.delete(f"{prefix}/{{webhook_id}}")
    def delete(principal: Asker, webhook_id: str) -> dict[str, Any]:
        webhooks.delete(principal, MLFLOW, webhook_id)
        return {}

    @router.post(f"{prefix}/{{webhook_id}}/test")
    def test(principal: Asker, webhook_id: str, body: MlflowTestBody) -> dict[str, Any]:
        try:
            answer = webhooks.test(principal, MLFLOW, webhook_id, body.event.name if body.event else None)
        except Unreachable as error:
            return {"result": {"success": False, "error_message": str(error)}}
        ok = answer.status < 400
        return {"result": {"success": ok, "response_status": answer.status, "response_body": answer.body}}


def _history(router: APIRouter, service: RegistryService) -> None:
    @router.get(f"{_OURS}/history")
    def history(
        principal: Asker,
        name: str,
        at: datetime | None = None,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> dict[str, Any]:
        moment = at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
        return record_json(service.history(principal, name, at=moment, max_results=max_results, page_token=page_token))

    @router.get(f"{_OURS}/activities")
    def activities(
        principal: Asker,
        name: str,
        version: str | None = None,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> dict[str, Any]:
        page = service.activities(principal, name, version=version, max_results=max_results, page_token=page_token)
        token = {"next_page_token": page.next_page_token} if page.next_page_token else {}
        return {"activities": [activity_json(each) for each in page.items], **token}

    @router.post(f"{_OURS}/moves")
    def move(principal: Asker, body: MoveBody) -> dict[str, Any]:
        made = service.move(
            principal, body.name, body.version, _target(body), reason=body.reason, override=body.override,
            archive_existing=body.archive_existing_versions,
        )  # fmt: skip
        return {"activity": activity_json(made)}

    @router.post(f"{_OURS}/rollback")
    def rollback(principal: Asker, body: MoveBody) -> dict[str, Any]:
        return {"activity": activity_json(service.rollback(principal, body.name, _target(body), reason=body.reason))}


def _requests(router: APIRouter, service: RegistryService) -> None:
    @router.post(f"{_OURS}/requests/create")
    def create(principal: Asker, body: MoveBody) -> dict[str, Any]:
        made = service.create_request(principal, body.name, body.version, _target(body), comment=body.comment)
        return {"request": request_json(made, service.actions_on(principal, body.name, made))}

    @router.post(f"{_OURS}/requests/approve")
    def approve(principal: Asker, body: MoveBody) -> dict[str, Any]:
        made = service.approve_request(
            principal, body.name, body.version, _target(body), comment=body.comment,
            archive_existing=body.archive_existing_versions,
        )  # fmt: skip
        return {"activity": activity_json(made)}

    @router.post(f"{_OURS}/requests/reject")
    def reject(principal: Asker, body: MoveBody) -> dict[str, Any]:
        made = service.reject_request(principal, body.name, body.version, _target(body), comment=body.comment)
        return {"activity": activity_json(made)}

    @router.post(f"{_OURS}/requests/cancel")
    def cancel(principal: Asker, body: MoveBody) -> dict[str, Any]:
        creator = body.creator or principal.name
        made = service.cancel_request(
            principal, body.name, body.version, _target(body), creator=creator, comment=body.comment
        )
        return {"activity": activity_json(made)}

    @router.get(f"{_OURS}/requests")
    def list_requests(principal: Asker, name: str, version: str | None = None) -> dict[str, Any]:
        found = service.list_requests(principal, name, version)
        return {"requests": [request_json(each, service.actions_on(principal, name, each)) for each in found]}


def _gates(router: APIRouter, gates: Gates, scope: Scope) -> None:
    @router.get(f"{_OURS}/policies")
    def list_policies(principal: Asker, securable_type: str, name: str) -> dict[str, Any]:
        check_scope(securable_type)
        found = gates.list_policies(principal, scope(principal, securable_type, name))
        return {"policies": [policy_json(each) for each in found]}

    @router.post(f"{_OURS}/policies")
    def put_policy(principal: Asker, body: PolicyBody) -> dict[str, Any]:
        check_scope(body.securable_type)
        securable = scope(principal, body.securable_type, body.name)
        made = gates.put_policy(
            principal, securable, body.policy, comment=body.comment, tables_may_follow=body.tables_may_follow
        )
        return {"policy": policy_json(made)}

    @router.get(f"{_OURS}/gates")
    def list_runs(principal: Asker, name: str, version: str | None = None) -> dict[str, Any]:
        policies = [policy_json(each) for each in gates.in_force(principal, name)]
        runs = [gate_run_json(run) for run in gates.list_runs(principal, name, version)]
        return {"policies": policies, "runs": runs}

    @router.post(f"{_OURS}/gates/run")
    def begin(principal: Asker, body: MoveBody) -> dict[str, Any]:
        return {"runs": [gate_run_json(run) for run in gates.begin(principal, body.name, body.version, _target(body))]}


def deliveries_router(webhooks: WebhookService) -> APIRouter:
    """What became of the deliveries of a webhook, of either kind."""
    router = APIRouter()

    @router.get(f"{_OURS}/webhooks/{{webhook_id}}/deliveries")
    def list_deliveries(principal: Asker, webhook_id: str) -> dict[str, Any]:
        return {"deliveries": [delivery_json(each) for each in webhooks.list_deliveries(principal, webhook_id)]}

    return router


def evaluations_router(evaluations: Evaluations) -> APIRouter:
    """The evaluations of a version."""
    router = APIRouter()

    @router.get(f"{_OURS}/evaluations")
    def list_evaluations(principal: Asker, name: str, version: str) -> dict[str, Any]:
        return {"evaluations": [evaluation_json(each) for each in evaluations.list(principal, name, version)]}

    return router


def _target(body: MoveBody) -> Target:
    if (body.alias is None) == (body.stage is None):
        raise InvalidArgument("Give either an alias or a stage.")
    return target_of("alias", body.alias) if body.alias is not None else target_of("stage", body.stage or "")
