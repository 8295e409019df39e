"""The secrets API."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.secrets import wire
from millpond.secrets.service import SecretsService

_API = "/api/2.0/secrets"
_Me = Annotated[Principal, Depends(current_principal)]


def router(service: SecretsService) -> APIRouter:
    """Everything under `/api/2.0/secrets`, and the rotation of the master key."""
    routes = APIRouter()
    _add_scopes(routes, service)
    _add_secrets(routes, service)
    _add_acls(routes, service)

    @routes.post("/api/millpond/secrets/rotate-key")
    def rotate_key(me: _Me) -> dict[str, Any]:
        done = service.rotate_master_key(me)
        return {"key_id": done.key_id, "previous_key_id": done.previous_key_id, "scopes": done.scopes}

    return routes


def _add_scopes(routes: APIRouter, service: SecretsService) -> None:
    @routes.post(_API + "/scopes/create")
    def create_scope(me: _Me, body: wire.CreateScope) -> dict[str, Any]:
        body.refuse_other_backends()
        service.create_scope(me, body.scope, initial_manager=body.initial_manage_principal)
        return {}

    @routes.get(_API + "/scopes/list")
    def list_scopes(me: _Me) -> dict[str, Any]:
        return wire.scopes(service.list_scopes(me))

    @routes.post(_API + "/scopes/delete")
    def delete_scope(me: _Me, body: wire.ScopeInput) -> dict[str, Any]:
        service.delete_scope(me, body.scope)
        return {}


def _add_secrets(routes: APIRouter, service: SecretsService) -> None:
    @routes.post(_API + "/put")
    def put_secret(me: _Me, body: wire.PutSecret) -> dict[str, Any]:
        service.put_secret(me, body.scope, body.key, body.value())
        return {}

    @routes.get(_API + "/get")
    def get_secret(me: _Me, scope: str, key: str) -> Response:
        body = wire.value(key, service.get_secret(me, scope, key))
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    @routes.get(_API + "/list")
    def list_secrets(me: _Me, scope: str) -> dict[str, Any]:
        return wire.keys(service.list_secrets(me, scope))

    @routes.post(_API + "/delete")
    def delete_secret(me: _Me, body: wire.SecretInput) -> dict[str, Any]:
        service.delete_secret(me, body.scope, body.key)
        return {}


def _add_acls(routes: APIRouter, service: SecretsService) -> None:
    @routes.post(_API + "/acls/put")
    def put_acl(me: _Me, body: wire.PutAcl) -> dict[str, Any]:
        service.put_acl(me, body.scope, body.principal, body.permission)
        return {}

    @routes.get(_API + "/acls/get")
    def get_acl(me: _Me, scope: str, principal: str) -> dict[str, Any]:
        return wire.acl(service.get_acl(me, scope, principal))

    @routes.get(_API + "/acls/list")
    def list_acls(me: _Me, scope: str) -> dict[str, Any]:
        return {"items": [wire.acl(found) for found in service.list_acls(me, scope)]}

    @routes.post(_API + "/acls/delete")
    def delete_acl(me: _Me, body: wire.AclInput) -> dict[str, Any]:
        service.delete_acl(me, body.scope, body.principal)
        return {}
