"""Access tokens and OAuth secrets as JSON.

Sources: `databricks/sdk/service/settings.py` (PublicTokenInfo, TokenInfo), `databricks/sdk/service/oauth2.py`
(SecretInfo).
"""

from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millpond.identity.custody import ClientSecret, TokenRecord
from millpond.identity.domain import Token
from millpond.identity.service import MAX_LIFETIME
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument

_NEVER = -1


class _Body(BaseModel):
    model_config = ConfigDict(strict=True)

    scopes: list[str] | None = None
    autoscope_enabled: bool | None = None

    def refuse_scopes(self) -> None:
        """Raise InvalidArgument when the credential shall be narrower than its holder, which cannot be had."""
        if self.scopes or self.autoscope_enabled:
            raise InvalidArgument(
                "Scopes are not supported: a credential may do all that its holder may. Leave them out."
            )


class CreateToken(_Body):
    """Body of `token/create`."""

    comment: str = ""
    lifetime_seconds: int | None = None

    @property
    def lifetime(self) -> timedelta | None:
        """None for a token that does not expire."""
        return seconds(self.lifetime_seconds)


class CreateTokenFor(CreateToken):
    """Body of `token-management/on-behalf-of/tokens`."""

    application_id: str


class CreateUserToken(CreateToken):
    """Body of `millpond/users/token`."""

    user_name: str


class DeleteToken(BaseModel):
    """Body of `token/delete`."""

    token_id: str


class ChangedToken(BaseModel):
    """The new state of a token, of which only the comment can change."""

    comment: str = ""


class ChangeToken(BaseModel):
    """Body of the PATCH of a token."""

    token: ChangedToken
    update_mask: str = Field(default="comment")

    def new_comment(self) -> str:
        """The comment to set; raises InvalidArgument when the mask names anything else."""
        if self.update_mask.split(",") != ["comment"]:
            raise InvalidArgument(f"update_mask is '{self.update_mask[:80]}'; only 'comment' can be changed.")
        return self.token.comment


class CreateSecret(_Body):
    """Body of a service principal's `credentials/secrets`."""

    lifetime: str | None = None


class ChangePassword(BaseModel):
    """Body of `millpond/password`."""

    current_password: str
    new_password: str


def seconds(value: int | None) -> timedelta | None:
    """A lifetime in seconds; None stays None.

    Raises InvalidArgument for one that no clock can add.
    """
    if value is None:
        return None
    if abs(value) > MAX_LIFETIME.total_seconds():
        raise InvalidArgument(f"lifetime_seconds is {value}; at most {MAX_LIFETIME.total_seconds():.0f} is allowed.")
    return timedelta(seconds=value)


def public_info(token: Token) -> dict[str, Any]:
    """A token as its holder sees it."""
    return {
        "token_id": token.id,
        "creation_time": epoch_ms(token.created_at),
        "expiry_time": _NEVER if token.expires_at is None else epoch_ms(token.expires_at),
        "comment": token.comment,
    }


def full_info(record: TokenRecord, workspace_id: int) -> dict[str, Any]:
    """A token as an administrator sees it."""
    creator = record.creator or record.owner
    return public_info(record.token) | {
        "owner_id": int(record.token.principal_id),
        "created_by_id": int(creator.id) if creator else None,
        "created_by_username": creator.name if creator else record.token.created_by,
        "workspace_id": workspace_id,
    }


def secret_info(secret: ClientSecret) -> dict[str, Any]:
    """A service principal's secret, with its value when it has just been made."""
    token = secret.token
    body = {
        "id": token.id,
        "secret_hash": secret.secret_hash,
        "create_time": _iso(token.created_at),
        "update_time": _iso(token.created_at),
        "status": "ACTIVE",
    }
    if token.expires_at is not None:
        body["expire_time"] = _iso(token.expires_at)
    if secret.value is not None:
        body["secret"] = secret.value
    return body


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
