"""Temporary credentials, as delta-rs, Polars and Unity Catalog's clients ask for them."""

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Header

from millpond.catalog.credentials import TemporaryCredentials, credentials_for
from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.catalog.wire.unity import ModelVersionCredential, PathCredential, TableCredential, VolumeCredential
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.settings import S3Settings

Who = Annotated[Principal, Depends(current_principal)]
Agent = Annotated[str, Header(alias="user-agent")]

_DELTA_RS = "deltalake-catalog-unity"


def credentials_router(catalog: CatalogService, s3: S3Settings) -> APIRouter:
    """Clients of 2.0 and of 2.1 call the same paths."""
    router = APIRouter()

    @router.post("/api/2.0/unity-catalog/temporary-table-credentials")
    @router.post("/api/2.1/unity-catalog/temporary-table-credentials")
    def for_table(principal: Who, body: TableCredential, user_agent: Agent = "") -> dict[str, Any]:
        write = body.operation == "READ_WRITE"
        table = catalog.get_table_by_id(principal, body.table_id)
        require(principal, Act.WRITE if write else Act.READ, table.securable)
        if not table.storage_location:
            raise InvalidArgument(f"'{table.name}' is a view; it has no files.")
        catalog.refuse_guarded_files(principal, table)
        answer = _json(credentials_for(table.storage_location, s3, write=write))
        return _with_some_keys(answer) if user_agent.startswith(_DELTA_RS) else answer

    @router.post("/api/2.0/unity-catalog/temporary-volume-credentials")
    @router.post("/api/2.1/unity-catalog/temporary-volume-credentials")
    def for_volume(principal: Who, body: VolumeCredential) -> dict[str, Any]:
        write = body.operation == "WRITE_VOLUME"
        volume = catalog.get_volume_by_id(principal, body.volume_id)
        for act in (Act.READ, Act.WRITE) if write else (Act.READ,):  # whoever writes files in place can read them
            require(principal, act, volume.securable)
        return _json(credentials_for(volume.storage_location, s3, write=write))

    @router.post("/api/2.0/unity-catalog/temporary-path-credentials")
    @router.post("/api/2.1/unity-catalog/temporary-path-credentials")
    def for_path(principal: Who, body: PathCredential) -> dict[str, Any]:
        write = body.operation != "PATH_READ"
        location = catalog.check_path(principal, body.url, write=write)
        return {} if body.dry_run else _json(credentials_for(location, s3, write=write))

    return router


class LocateVersion(Protocol):
    """Where the files of a model's version are, as the tracking room knows."""

    def __call__(self, principal: Principal, name: ObjectName, version: int, *, write: bool) -> str:
        """Their location. Raises NotFound, PermissionDenied, FailedPrecondition for writing to a finished version."""


def version_credentials_router(locate: LocateVersion, s3: S3Settings) -> APIRouter:
    """The same for the files of registered models, as MLflow's client of the open Unity Catalog asks for them."""
    router = APIRouter()

    @router.post("/api/2.0/unity-catalog/temporary-model-version-credentials")
    @router.post("/api/2.1/unity-catalog/temporary-model-version-credentials")
    def for_model_version(principal: Who, body: ModelVersionCredential) -> dict[str, Any]:
        write = body.operation == "READ_WRITE_MODEL_VERSION"
        name = ObjectName(body.catalog_name, body.schema_name, body.model_name)
        return _json(credentials_for(locate(principal, name, body.version, write=write), s3, write=write))

    return router


def _with_some_keys(answer: dict[str, Any]) -> dict[str, Any]:
    """delta-rs goes on only when it is given keys, though it uses none for local files: give it empty ones.

    Source: `crates/catalog-unity/src/lib.rs`, `get_uc_location_and_token`.
    """
    empty = {"access_key_id": "", "secret_access_key": "", "session_token": ""}
    return {"aws_temp_credentials": empty} | answer


def _json(given: TemporaryCredentials) -> dict[str, Any]:
    answer: dict[str, Any] = {"url": given.location, "expiration_time": epoch_ms(given.expires_at)}
    if given.access_key_id is not None:
        answer["aws_temp_credentials"] = {
            "access_key_id": given.access_key_id,
            "secret_access_key": given.secret_access_key,
            "session_token": given.session_token,
        }
    return answer
