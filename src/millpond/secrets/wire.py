"""The JSON of the Databricks secrets API.

Source: databricks-sdk 0.156, `databricks/sdk/service/workspace.py` (SecretsAPI) and `databricks/sdk/dbutils.py`.
"""

import base64
import binascii
from typing import Any, Literal

from pydantic import BaseModel

from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument, MalformedRequest, NotImplementedHere
from millpond.secrets.domain import Acl, Permission, Scope, Secret


class ScopeInput(BaseModel):
    """A scope by name."""

    scope: str


class CreateScope(ScopeInput):
    """CreateScope."""

    initial_manage_principal: str | None = None
    scope_backend_type: Literal["DATABRICKS", "AZURE_KEYVAULT"] = "DATABRICKS"
    backend_azure_keyvault: Any = None

    def refuse_other_backends(self) -> None:
        """Raises NotImplementedHere for a scope in an Azure Key Vault."""
        if self.scope_backend_type == "AZURE_KEYVAULT" or self.backend_azure_keyvault is not None:
            raise NotImplementedHere(
                "Scopes of an Azure Key Vault (scope_backend_type AZURE_KEYVAULT) are not available here; "
                "leave scope_backend_type out, and put the secrets into a scope of Millpond's own."
            )


class SecretInput(ScopeInput):
    """A secret by scope and key."""

    key: str


class PutSecret(SecretInput):
    """PutSecret."""

    string_value: str | None = None
    bytes_value: str | None = None

    def value(self) -> bytes:
        """The value, however it was sent. Raises MalformedRequest, InvalidArgument."""
        if (self.string_value is None) == (self.bytes_value is None):
            raise MalformedRequest("Give exactly one of string_value and bytes_value.")
        if self.string_value is not None:
            return self.string_value.encode()
        try:
            return base64.b64decode(self.bytes_value or "", validate=True)
        except (binascii.Error, ValueError):
            raise InvalidArgument("bytes_value is not base64.") from None


class AclInput(ScopeInput):
    """A grantee in a scope."""

    principal: str


class PutAcl(AclInput):
    """PutAcl."""

    permission: Permission


def scopes(found: tuple[Scope, ...]) -> dict[str, Any]:
    """ListScopesResponse."""
    return {"scopes": [{"name": scope.name, "backend_type": "DATABRICKS"} for scope in found]}


def keys(found: tuple[Secret, ...]) -> dict[str, Any]:
    """ListSecretsResponse."""
    return {"secrets": [{"key": secret.key, "last_updated_timestamp": epoch_ms(secret.updated_at)} for secret in found]}


def value(key: str, secret: bytes) -> dict[str, Any]:
    """GetSecretResponse."""
    return {"key": key, "value": base64.b64encode(secret).decode()}


def acl(found: Acl) -> dict[str, Any]:
    """AclItem."""
    return {"principal": found.principal, "permission": found.permission.value}
