"""Changing one's own password. (An administrator sets another's as the `password` of a SCIM user.)"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from millpond.identity.domain import Principal
from millpond.identity.middleware import client_address, current_principal
from millpond.identity.service import IdentityService
from millpond.identity.wire.tokens import ChangePassword


def router(identity: IdentityService) -> APIRouter:
    """The one call."""
    router = APIRouter()

    @router.post("/api/millpond/password")
    def change_password(
        request: Request, principal: Annotated[Principal, Depends(current_principal)], body: ChangePassword
    ) -> dict[str, Any]:
        identity.change_password(
            principal, current=body.current_password, new=body.new_password, address=client_address(request)
        )
        return {}

    return router
