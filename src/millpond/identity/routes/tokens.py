"""Access tokens: one's own, everybody's for administrators, and the secrets of service principals."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from millpond.identity.custody import CustodyService, lifetime_of
from millpond.identity.domain import Principal, PrincipalKind
from millpond.identity.middleware import current_principal
from millpond.identity.routes.account import only_account
from millpond.identity.service import IdentityService
from millpond.identity.wire.tokens import (
    ChangeToken,
    CreateSecret,
    CreateToken,
    CreateTokenFor,
    CreateUserToken,
    DeleteToken,
    full_info,
    public_info,
    secret_info,
)
from millpond.kernel.http import join

Asker = Annotated[Principal, Depends(current_principal)]


def router(identity: IdentityService, custody: CustodyService, workspace_id: int) -> APIRouter:
    """Every call about credentials."""
    joined = APIRouter()
    join(
        joined,
        _own(identity),
        _everybodys(custody, workspace_id),
        _for_others(custody, workspace_id),
        _secrets(APIRouter(prefix="/api/2.0/accounts/servicePrincipals"), custody),
        _secrets(
            APIRouter(
                prefix="/api/2.0/accounts/{account_id}/servicePrincipals", dependencies=[only_account(workspace_id)]
            ),
            custody,
        ),
    )
    return joined


def _own(identity: IdentityService) -> APIRouter:
    router = APIRouter(prefix="/api/2.0/token")

    @router.post("/create")
    def create(principal: Asker, body: CreateToken) -> dict[str, Any]:
        body.refuse_scopes()
        issued = identity.create_token(principal, comment=body.comment, lifetime=body.lifetime)
        return {"token_value": issued.secret, "token_info": public_info(issued.token)}

    @router.get("/list")
    def list_tokens(principal: Asker) -> dict[str, Any]:
        return {"token_infos": [public_info(token) for token in identity.list_tokens(principal)]}

    @router.post("/delete")
    def delete(principal: Asker, body: DeleteToken) -> dict[str, Any]:
        identity.revoke_token(principal, body.token_id)
        return {}

    @router.patch("/{token_id}")
    def change(principal: Asker, token_id: str, body: ChangeToken) -> dict[str, Any]:
        identity.comment_token(principal, token_id, body.new_comment())
        return {}

    return router


def _everybodys(custody: CustodyService, workspace_id: int) -> APIRouter:
    router = APIRouter(prefix="/api/2.0/token-management")

    @router.get("/tokens")
    def list_tokens(
        principal: Asker,
        created_by_id: Annotated[str | None, Query()] = None,
        created_by_username: Annotated[str | None, Query()] = None,
    ) -> dict[str, Any]:
        found = custody.list_tokens(principal, created_by_id=created_by_id, created_by_name=created_by_username)
        return {"token_infos": [full_info(record, workspace_id) for record in found]}

    @router.get("/tokens/{token_id}")
    def get(principal: Asker, token_id: str) -> dict[str, Any]:
        return {"token_info": full_info(custody.get_token(principal, token_id), workspace_id)}

    @router.patch("/tokens/{token_id}")
    def change(principal: Asker, token_id: str, body: ChangeToken) -> dict[str, Any]:
        return full_info(custody.comment_token(principal, token_id, body.new_comment()), workspace_id)

    @router.delete("/tokens/{token_id}")
    def delete(principal: Asker, token_id: str) -> dict[str, Any]:
        custody.revoke_token(principal, token_id)
        return {}

    return router


def _for_others(custody: CustodyService, workspace_id: int) -> APIRouter:
    router = APIRouter()

    @router.post("/api/2.0/token-management/on-behalf-of/tokens")
    def create_on_behalf(principal: Asker, body: CreateTokenFor) -> dict[str, Any]:
        return issue(principal, body, body.application_id, PrincipalKind.SERVICE_PRINCIPAL)

    @router.post("/api/millpond/users/token")
    def create_for_user(principal: Asker, body: CreateUserToken) -> dict[str, Any]:
        return issue(principal, body, body.user_name, PrincipalKind.USER)

    def issue(principal: Principal, body: CreateToken, name: str, kind: PrincipalKind) -> dict[str, Any]:
        body.refuse_scopes()
        record, secret = custody.create_token_for(
            principal, name, kind=kind, comment=body.comment, lifetime=body.lifetime
        )
        return {"token_value": secret, "token_info": full_info(record, workspace_id)}

    return router


def _secrets(router: APIRouter, custody: CustodyService) -> APIRouter:
    path = "/{principal_id}/credentials/secrets"

    @router.post(path)
    def create(principal: Asker, principal_id: str, body: CreateSecret) -> dict[str, Any]:
        body.refuse_scopes()
        lifetime = lifetime_of(body.lifetime)
        return secret_info(custody.create_client_secret(principal, principal_id, lifetime=lifetime))

    @router.get(path)
    def list_secrets(principal: Asker, principal_id: str) -> dict[str, Any]:
        found = custody.list_client_secrets(principal, principal_id)
        return {"secrets": [secret_info(secret) for secret in found]}

    @router.delete(path + "/{secret_id}")
    def delete(principal: Asker, principal_id: str, secret_id: str) -> dict[str, Any]:
        custody.delete_client_secret(principal, principal_id, secret_id)
        return {}

    return router
