"""The Command Execution API 1.2."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from millpond.compute.services import ComputeServices
from millpond.compute.wire import ContextInput, command_json, context_json
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal

_Me = Annotated[Principal, Depends(current_principal)]
_API = "/api/1.2"
_Cluster = Annotated[str, Query(alias="clusterId")]
_Context = Annotated[str, Query(alias="contextId")]
_Command = Annotated[str, Query(alias="commandId")]


def add(routes: APIRouter, services: ComputeServices) -> None:
    """Contexts and commands."""
    commands = services.commands

    @routes.post(_API + "/contexts/create")
    def create(me: _Me, body: ContextInput) -> dict[str, Any]:
        return {"id": commands.create(me, body.clusterId, body.language).id}

    @routes.get(_API + "/contexts/status")
    def context(me: _Me, cluster_id: _Cluster, context_id: _Context) -> dict[str, Any]:
        return context_json(commands.get(me, cluster_id, context_id))

    @routes.post(_API + "/contexts/destroy")
    def destroy(me: _Me, body: ContextInput) -> dict[str, Any]:
        commands.destroy(me, body.clusterId, body.contextId)
        return {"id": body.contextId}

    @routes.post(_API + "/commands/execute")
    def execute(me: _Me, body: ContextInput) -> dict[str, Any]:
        return {"id": commands.execute(me, body.clusterId, body.contextId, body.language, body.command).id}

    @routes.get(_API + "/commands/status")
    def status(me: _Me, cluster_id: _Cluster, context_id: _Context, command_id: _Command) -> dict[str, Any]:
        return command_json(commands.status(me, cluster_id, context_id, command_id))

    @routes.post(_API + "/commands/cancel")
    def cancel(me: _Me, body: ContextInput) -> dict[str, Any]:
        commands.cancel(me, body.clusterId, body.contextId, body.commandId)
        return {"id": body.commandId}
