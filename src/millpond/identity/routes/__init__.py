"""HTTP of identity: `router` joins the directory (SCIM), tokens, OAuth and one's password."""

from fastapi import APIRouter

from millpond.identity.custody import CustodyService
from millpond.identity.directory import DirectoryService
from millpond.identity.oauth import OAuthService
from millpond.identity.routes import oauth, passwords, scim, tokens
from millpond.identity.service import IdentityService
from millpond.kernel.http import join


def router(
    identity: IdentityService,
    directory: DirectoryService,
    custody: CustodyService,
    oauth_service: OAuthService,
    *,
    public_url: str | None = None,
) -> APIRouter:
    """Every path of this room. `public_url` is the address that clients use, where it is not the one they send."""
    workspace_id = directory.workspace_id()
    joined = APIRouter()
    join(
        joined,
        scim.router(directory, workspace_id),
        tokens.router(identity, custody, workspace_id),
        oauth.router(oauth_service, workspace_id, public_url=public_url),
        passwords.router(identity),
    )
    return joined
