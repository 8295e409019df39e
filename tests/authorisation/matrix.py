# ruff: noqa: E501 - a table is read by its lines
"""Each route, an example of its use, and what becomes of it for each role.

An outcome is one letter for each role of `world.ROLES`, in their order:

`y` done · `x` who is it? (401) · `f` refused (403) · `h` there is no such thing for you (404) ·
`b` allowed, then something else was wrong (400, 409, 422) · `n` allowed, and said not to be implemented (501) ·
`r` sent to the sign-in page · `[by]` either, as it depends on how far the work of the call before is
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.authorisation.world import CLUSTER, OLD_ALERT, SAVED_ALERT, TEXT_ALERT


@dataclass(frozen=True, kw_only=True)
class Case:
    """One route and an example: `$key` stands for a name of the world, `$new` for one that is free, `$own` for an
    object that was made for this very call (of the kind `own`), so that it may be changed or dropped."""

    method: str
    route: str
    outcome: str
    path: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    body: Any = None
    own: str | None = None

    @property
    def id(self) -> str:
        """How tests call it."""
        return f"{self.method} {self.route}"


def _case(line: str, outcome: str, *, q: str = "", body: Any = None, own: str | None = None, **path: str) -> Case:
    method, route = line.split(" ", 1)
    return Case(method=method, route=route, outcome=outcome, path=path, query=q, body=body, own=own)


_UC = "/api/2.1/unity-catalog"
_OPEN = "yyyyyy"
_SIGNED_IN = "xyyyyy"

OPEN: Sequence[Case] = (
    _case("GET /health", _OPEN),
    _case("GET /health/live", _OPEN),
    _case("GET /health/ready", _OPEN),
    _case("GET /metrics", "xyyyyy"),
    _case("GET /.well-known/databricks-config", _OPEN),
    _case("GET /oidc/.well-known/openid-configuration", _OPEN),
    _case("GET /oidc/.well-known/oauth-authorization-server", _OPEN),
    _case("POST /oidc/v1/token", "bxxxxx"),
    _case("GET /static/millpond.css", _OPEN),
    _case("GET /static/millpond.js", _OPEN),
    _case("GET /favicon.ico", _OPEN),
    _case("GET /sign-in", _OPEN),
    _case("POST /sign-in", "xxxxxx"),
    _case("POST /sign-out", "xrrrrr"),
    _case("GET /sign-in/sso", "hhhhhh"),  # no provider is configured
    _case("GET /sign-in/sso/callback", "hhhhhh"),
)


_SCIM = "/api/2.0/preview/scim/v2"


def _scim() -> Sequence[Case]:
    made = [_case(f"GET {_SCIM}/Me", _SIGNED_IN)]
    for kind, key, body in (
        ("Users", "user_id", {"userName": "$new@matrix.org"}),
        ("ServicePrincipals", "principal_id", {"displayName": "$new"}),
        ("Groups", "group_id", {"displayName": "$new"}),
    ):
        one = f"{_SCIM}/{kind}/{{member_id}}"
        patch = {"Operations": [{"op": "replace", "path": "displayName", "value": "$new"}]}
        made += [
            _case(f"GET {_SCIM}/{kind}", "xyyyyy"),
            _case(f"POST {_SCIM}/{kind}", "xffffy", body=body),
            _case(f"GET {one}", "xyyyyy", member_id=f"${key}"),
            _case(f"PUT {one}", "xffffy", member_id="$own", own=kind, body={**body, "id": "$own"}),
            _case(f"PATCH {one}", "xffffy", member_id="$own", own=kind, body=patch),
            _case(f"DELETE {one}", "xffffy", member_id="$own", own=kind),
        ]
    return made


_PRINCIPAL_SECRETS = "/api/2.0/accounts/servicePrincipals/{principal_id}/credentials/secrets"

IDENTITY: Sequence[Case] = (
    *_scim(),
    _case(f"POST {_PRINCIPAL_SECRETS}", "xffffy", principal_id="$principal_id", body={}),
    _case(f"GET {_PRINCIPAL_SECRETS}", "xffffy", principal_id="$principal_id"),
    _case(f"DELETE {_PRINCIPAL_SECRETS}/{{secret_id}}", "xffffh", principal_id="$principal_id", secret_id="none"),
    _case("POST /api/2.0/token/create", "xyyyyy", body={"comment": "matrix"}),
    _case("GET /api/2.0/token/list", "xyyyyy"),
    _case("POST /api/2.0/token/delete", "xhhhyy", body={"token_id": "$own"}, own="token"),
    _case("PATCH /api/2.0/token/{token_id}", "xhhhyy", token_id="$token_id",
          body={"token": {"comment": "c"}, "update_mask": "comment"}),
    _case("GET /api/2.0/token-management/tokens", "xffffy"),
    _case("GET /api/2.0/token-management/tokens/{token_id}", "xffffy", token_id="$token_id"),
    _case("PATCH /api/2.0/token-management/tokens/{token_id}", "xffffy", token_id="$token_id",
          body={"token": {"comment": "c"}, "update_mask": "comment"}),
    _case("DELETE /api/2.0/token-management/tokens/{token_id}", "xffffy", token_id="$own", own="token"),
    _case("POST /api/2.0/token-management/on-behalf-of/tokens", "xffffy", body={"application_id": "$application_id"}),
    _case("POST /api/millpond/users/token", "xffffy", body={"user_name": "$reader"}),
    _case("POST /api/millpond/password", "xfffff", body={"current_password": "wrong-word-1", "new_password": "another-word-1"}),
    _case("PATCH /api/millpond/ui/preferences", "xyyyyy", body={"theme": "dark"}),
)  # fmt: skip


_HOME = {"name": "$new", "catalog_name": "$cat", "schema_name": "s"}

CATALOG: Sequence[Case] = (
    _case(f"GET {_UC}/catalogs", "xyyyyy"),
    _case(f"POST {_UC}/catalogs", "xyyyyy", body={"name": "$new"}),
    _case(f"GET {_UC}/catalogs/{{name}}", "xhyyyy", name="$cat"),
    _case(f"PATCH {_UC}/catalogs/{{name}}", "xhffyy", name="$cat", body={"comment": "c"}),
    _case(f"DELETE {_UC}/catalogs/{{name}}", "xhffyy", name="$own", q="force=true", own="catalog"),
    _case(f"GET {_UC}/schemas", "xhyyyy", q="catalog_name=$cat"),
    _case(f"POST {_UC}/schemas", "xhfyyy", body={"name": "$new", "catalog_name": "$cat"}),
    _case(f"GET {_UC}/schemas/{{full_name}}", "xhyyyy", full_name="$schema"),
    _case(f"PATCH {_UC}/schemas/{{full_name}}", "xhffyy", full_name="$schema", body={"comment": "c"}),
    _case(f"DELETE {_UC}/schemas/{{full_name}}", "xhffyy", full_name="$own", own="schema"),
    _case(f"GET {_UC}/tables", "xhyyyy", q="catalog_name=$cat&schema_name=s"),
    _case(f"GET {_UC}/table-summaries", "xhyyyy", q="catalog_name=$cat"),
    _case(f"POST {_UC}/tables", "xhfyyy", body={**_HOME, "table_type": "VIEW", "view_definition": "SELECT 1 AS a"}),
    _case(f"POST {_UC}/staging-tables", "xnnnnn", body=_HOME),
    _case(f"GET {_UC}/tables/{{full_name}}", "xhyyyy", full_name="$table"),
    _case(f"GET {_UC}/tables/{{full_name}}/exists", "xhyyyy", full_name="$table"),
    _case(f"PATCH {_UC}/tables/{{full_name}}", "xhfyyy", full_name="$table", body={"comment": "c"}),
    _case(f"DELETE {_UC}/tables/{{full_name}}", "xhffyy", full_name="$own", own="table"),
    _case(f"POST {_UC}/constraints", "xhffyy", own="table",
          body={"full_name_arg": "$own", "constraint": {"primary_key_constraint": {"name": "k", "child_columns": ["a"]}}}),
    _case(f"DELETE {_UC}/constraints/{{full_name}}", "xhffhh", full_name="$table", q="constraint_name=none"),
    _case(f"GET {_UC}/volumes", "xhyyyy", q="catalog_name=$cat&schema_name=s"),
    _case(f"POST {_UC}/volumes", "xhfyyy", body={**_HOME, "volume_type": "MANAGED"}),
    _case(f"GET {_UC}/volumes/{{name}}", "xhyyyy", name="$volume"),
    _case(f"PATCH {_UC}/volumes/{{name}}", "xhffyy", name="$volume", body={"comment": "c"}),
    _case(f"DELETE {_UC}/volumes/{{name}}", "xhffyy", name="$own", own="volume"),
    _case(f"GET {_UC}/functions", "xhyyyy", q="catalog_name=$cat&schema_name=s"),
    _case(f"POST {_UC}/functions", "xhfyyy", body="function"),
    _case(f"GET {_UC}/functions/{{name}}", "xhyyyy", name="$function"),
    _case(f"PATCH {_UC}/functions/{{name}}", "xhffyy", name="$own", own="function", body={"owner": "$owner"}),
    _case(f"DELETE {_UC}/functions/{{name}}", "xhffyy", name="$own", own="function"),
    _case(f"GET {_UC}/current-metastore-assignment", "xyyyyy"),
    _case(f"GET {_UC}/metastore_summary", "xyyyyy"),
    _case(f"GET {_UC}/metastores", "xyyyyy"),
    _case(f"GET {_UC}/metastores/{{metastore_id}}", "xhhhhh", metastore_id="none"),
    *(
        case
        for kind, name in (("catalog", "$cat"), ("schema", "$schema"), ("table", "$table"), ("volume", "$volume"),
                           ("function", "$function"))
        for case in (
            _case(f"GET {_UC}/permissions/{{securable_type}}/{{full_name:path}}", "xhyyyy", securable_type=kind, full_name=name),
            _case(f"GET {_UC}/effective-permissions/{{securable_type}}/{{full_name:path}}", "xhyyyy", securable_type=kind,
                  full_name=name),
            _case(f"PATCH {_UC}/permissions/{{securable_type}}/{{full_name:path}}", "xhffyy", securable_type=kind, full_name=name,
                  body={"changes": [{"principal": "$owner", "add": ["MANAGE"]}]}),
        )
    ),
    _case(f"POST {_UC}/temporary-table-credentials", "xhyyyy", body={"table_id": "$table_id", "operation": "READ"}),
    _case(f"POST {_UC}/temporary-table-credentials", "xhfyyy", body={"table_id": "$table_id", "operation": "READ_WRITE"}),
    _case(f"POST {_UC}/temporary-volume-credentials", "xhyyyy", body={"volume_id": "$volume_id", "operation": "READ_VOLUME"}),
    _case(f"POST {_UC}/temporary-volume-credentials", "xhfyyy", body={"volume_id": "$volume_id", "operation": "WRITE_VOLUME"}),
    _case(f"POST {_UC}/temporary-path-credentials", "xfyyyy", body={"url": "$location", "operation": "PATH_READ"}),
    _case(f"POST {_UC}/temporary-model-version-credentials", "xhyyyy", body={
          "catalog_name": "$cat", "schema_name": "s", "model_name": "m", "version": 1,
          "operation": "READ_MODEL_VERSION"}),
)  # fmt: skip


_FILE = "Volumes/$cat/s/v/a.txt"
_MINE = "Volumes/$cat/s/v/$new.txt"

FILES: Sequence[Case] = (
    _case("HEAD /api/2.0/fs/files/{path:path}", "xhyyyy", path=_FILE),
    _case("GET /api/2.0/fs/files/{path:path}", "xhyyyy", path=_FILE),
    _case("PUT /api/2.0/fs/files/{path:path}", "xhfyyy", path=_MINE, body=b"hello"),
    _case("POST /api/2.0/fs/files/{path:path}", "xhfyyy", path=_MINE, q="action=initiate-upload"),
    _case("DELETE /api/2.0/fs/files/{path:path}", "xhfyyy", path="Volumes/$cat/s/v/$own", own="file"),
    _case("GET /api/2.0/fs/directories/{path:path}", "xhyyyy", path="Volumes/$cat/s/v"),
    _case("HEAD /api/2.0/fs/directories/{path:path}", "xhyyyy", path="Volumes/$cat/s/v/d"),
    _case("PUT /api/2.0/fs/directories/{path:path}", "xhfyyy", path="Volumes/$cat/s/v/$new"),
    _case("DELETE /api/2.0/fs/directories/{path:path}", "xhfyyy", path="Volumes/$cat/s/v/$own", own="directory"),
    _case("POST /api/2.0/fs/create-download-url", "xhyyyy", body={"path": "/" + _FILE, "expire_time": "$soon"}),
    _case("POST /api/2.0/fs/create-upload-url", "xhfyyy", body={"path": "/" + _MINE, "expire_time": "$soon"}),
    _case("POST /api/2.0/fs/create-upload-part-urls", "xhfyyy", body={
        "path": "/" + _MINE, "session_token": "none", "start_part_number": 1, "count": 1, "expire_time": "$soon"}),
    _case("POST /api/2.0/fs/create-abort-upload-url", "xhfyyy", body={
        "path": "/" + _MINE, "session_token": "none", "expire_time": "$soon"}),
)  # fmt: skip


_MODEL = f"{_UC}/models/{{full_name}}"

MODELS: Sequence[Case] = (
    _case(f"POST {_UC}/models", "xhfyyy", body=_HOME),
    _case(f"GET {_UC}/models", "xhyyyy", q="catalog_name=$cat&schema_name=s"),
    _case(f"GET {_MODEL}", "xhyyyy", full_name="$model"),
    _case(f"PATCH {_MODEL}", "xhffyy", full_name="$model", body={"comment": "c"}),
    _case(f"DELETE {_MODEL}", "xhffyy", full_name="$own", own="model"),
    _case(f"GET {_MODEL}/versions", "xhyyyy", full_name="$model"),
    _case(f"GET {_MODEL}/versions/{{version}}", "xhyyyy", full_name="$model", version="$version"),
    _case(f"PATCH {_MODEL}/versions/{{version}}", "xhffyy", full_name="$model", version="$version", body={"comment": "c"}),
    _case(f"DELETE {_MODEL}/versions/{{version}}", "xhffyy", full_name="$model", version="$own", own="version"),
    _case(f"POST {_UC}/models/versions", "xhfyyy", body={
        "model_name": "m", "catalog_name": "$cat", "schema_name": "s", "source": "runs:/none/model"}),
    _case(f"PATCH {_MODEL}/versions/{{version}}/finalize", "xhfyyy", full_name="$model", version="$version"),
    _case(f"PUT {_MODEL}/aliases/{{alias}}", "xhffyy", full_name="$model", alias="a", body={"version_num": 1}),
    _case(f"GET {_MODEL}/aliases/{{alias}}", "xhyyyy", full_name="$model", alias="a"),
    _case(f"DELETE {_MODEL}/aliases/{{alias}}", "xhffyy", full_name="$model", alias="$own", own="alias"),
    _case(f"PATCH {_UC}/securable-tags/FUNCTION/{{full_name}}", "xhffyy", full_name="$model", body={
        "changes": {"add_tags": [{"key": "k", "value": "v"}]}}),
    _case(f"PATCH {_UC}/subentity-tags/FUNCTION/{{full_name}}/{{version}}", "xhffyy", full_name="$model", version="$version",
          body={"changes": {"add_tags": [{"key": "k", "value": "v"}]}}),
)  # fmt: skip


_ML = "/api/2.0/mlflow"
_RECORD = "/api/millpond/registry"
_ONE_VERSION = {"name": "$model", "version": "$version"}
_ASKED = {**_ONE_VERSION, "alias": "$own"}
_STAGED = {"name": "$model", "version": "$staged", "stage": "Staging"}
_HOOK = {"events": ["COMMENT_CREATED"], "http_url_spec": {"url": "http://127.0.0.1:9/"}}
_MLFLOW_HOOK = {"name": "$new", "url": "http://127.0.0.1:9/", "events": [{"entity": "PROMPT", "action": "CREATED"}]}
_DESCRIBED = "targets: [alias:guarded]\nchecks: [description]"

REGISTRY: Sequence[Case] = (
    _case(f"POST {_ML}/comments/create", "xhyyyy", body={**_ONE_VERSION, "comment": "c"}),
    _case(f"PATCH {_ML}/comments/update", "xhffyf", own="comment", body={"id": "$own", "comment": "d"}),
    _case(f"DELETE {_ML}/comments/delete", "xhffyy", own="comment", q="id=$own"),
    _case(f"POST {_ML}/transition-requests/create", "xhyyyy", body=_STAGED),
    _case(f"GET {_ML}/transition-requests/list", "xhyyyy", q="name=$model&version=$version"),
    _case(f"DELETE {_ML}/transition-requests/delete", "xhffyh", q="name=$model&version=$staged&stage=Staging&creator=$owner"),
    _case(f"POST {_ML}/transition-requests/reject", "xhffyh", body=_STAGED),  # the owner's ended all of them
    _case(f"POST {_ML}/transition-requests/approve", "xhffhh", body=_STAGED),
    _case(f"POST {_ML}/registry-webhooks/create", "xhffyy", body={**_HOOK, "model_name": "$model"}),
    _case(f"GET {_ML}/registry-webhooks/list", "xhffyy", q="model_name=$model"),
    _case(f"PATCH {_ML}/registry-webhooks/update", "xhhhyy", own="webhook", body={"id": "$own", "status": "DISABLED"}),
    _case(f"DELETE {_ML}/registry-webhooks/delete", "xhhhyy", own="webhook", q="id=$own"),
    _case(f"POST {_ML}/registry-webhooks/test", "xhhhbb", own="webhook", body={"id": "$own"}),  # nobody listens there
    _case(f"POST {_ML}/webhooks", "xffffy", body=_MLFLOW_HOOK),
    _case(f"GET {_ML}/webhooks", "xffffy"),
    _case(f"GET {_ML}/webhooks/{{webhook_id}}", "xhhhhy", own="mlflow webhook", webhook_id="$own"),
    _case(f"PATCH {_ML}/webhooks/{{webhook_id}}", "xhhhhy", own="mlflow webhook", webhook_id="$own", body={"name": "n"}),
    _case(f"DELETE {_ML}/webhooks/{{webhook_id}}", "xhhhhy", own="mlflow webhook", webhook_id="$own"),
    _case(f"POST {_ML}/webhooks/{{webhook_id}}/test", "xhhhhy", own="mlflow webhook", webhook_id="$own", body={}),
    _case(f"GET {_RECORD}/webhooks/{{webhook_id}}/deliveries", "xhhhyy", own="webhook", webhook_id="$own"),
    _case(f"GET {_RECORD}/history", "xhyyyy", q="name=$model"),
    _case(f"GET {_RECORD}/activities", "xhyyyy", q="name=$model"),
    _case(f"POST {_RECORD}/moves", "xhffyy", body={**_ONE_VERSION, "alias": "$new"}),
    _case(f"POST {_RECORD}/rollback", "xhffbb", body={"name": "$model", "alias": "never-set"}),
    _case(f"GET {_RECORD}/requests", "xhyyyy", q="name=$model"),
    _case(f"POST {_RECORD}/requests/create", "xhyyyy", body={**_ONE_VERSION, "alias": "$new"}),
    _case(f"POST {_RECORD}/requests/approve", "xhffyy", own="request", body=_ASKED),
    _case(f"POST {_RECORD}/requests/reject", "xhffyy", own="request", body=_ASKED),
    _case(f"POST {_RECORD}/requests/cancel", "xhffyy", own="request", body={**_ASKED, "creator": "$owner"}),
    _case(f"GET {_RECORD}/policies", "xhyyyy", q="securable_type=model&name=$model"),
    _case(f"POST {_RECORD}/policies", "xhffyy", body={"securable_type": "model", "name": "$model", "policy": _DESCRIBED}),
    _case(f"GET {_RECORD}/gates", "xhyyyy", q="name=$model"),
    _case(f"GET {_RECORD}/evaluations", "xhyyyy", q="name=$model&version=1"),
    _case(f"POST {_RECORD}/gates/run", "xhfyyy", body={**_ONE_VERSION, "alias": "guarded"}),
)  # fmt: skip


_SE = "/api/2.0/serving-endpoints"
_ONE = f"{_SE}/{{name}}"
_CANARY = "/api/millpond/serving-endpoints/{name}/canary"
_REPLAYS = "/api/millpond/serving-endpoints/{name}/replays"
_VERSION = {"entity_name": "$model", "entity_version": "$version"}

SERVING: Sequence[Case] = (
    _case(f"POST {_SE}", "xhyyyy", body="endpoint"),
    _case(f"GET {_SE}", "xyyyyy"),
    _case(f"POST {_SE}/", "xhyyyy", body="endpoint"),
    _case(f"GET {_SE}/", "xyyyyy"),
    _case(f"GET {_ONE}", "xhyyyy", name="$endpoint"),
    _case(f"PUT {_ONE}/config", "xhffy[by]", name="$endpoint", body="entities"),
    _case(f"PATCH {_ONE}/tags", "xhffyy", name="$endpoint", body={"add_tags": [{"key": "k", "value": "v"}]}),
    _case(f"DELETE {_ONE}", "xhhhyy", name="$own", own="endpoint"),
    _case(f"PATCH {_ONE}/telemetry-config", "xhnnnn", name="$endpoint", body={}),
    _case(f"PATCH {_ONE}/notifications", "xhffyy", name="$endpoint", body={}),
    _case(f"PUT {_ONE}/ai-gateway", "xhffyy", name="$endpoint", body={}),
    _case(f"PUT {_ONE}/rate-limits", "xhffyy", name="$endpoint", body={}),
    _case("GET /api/millpond/serving-endpoints/{name}/events", "xhyyyy", name="$endpoint"),
    _case("GET /api/millpond/serving-endpoints/{name}/shadows", "xhyyyy", name="$endpoint"),
    _case("PUT /api/millpond/serving-endpoints/{name}/shadows", "xhffyy", name="$endpoint", body={"shadows": []}),
    _case(f"POST {_CANARY}", "xhffbb", name="$endpoint", body={"served_entity_name": "m"}),
    _case(f"GET {_CANARY}", "xhhhhh", name="$endpoint"),
    *(_case(f"POST {_CANARY}/{act}", "xhffbb", name="$endpoint") for act in ("pause", "resume", "promote", "abort")),
    _case(f"POST {_ONE}/replay", "xhffbb", name="$endpoint", body=_VERSION),
    _case(f"POST {_REPLAYS}", "xhffbb", name="$endpoint", body=_VERSION),
    _case(f"GET {_REPLAYS}", "xhyyyy", name="$endpoint"),
    _case(f"GET {_REPLAYS}/{{replay_id}}", "xhhhhh", name="$endpoint", replay_id="none"),
    _case(f"POST {_REPLAYS}/{{replay_id}}/cancel", "xhhhhh", name="$endpoint", replay_id="none"),
    _case(f"GET {_ONE}/served-models/{{served_model}}/logs", "xhffyy", name="$endpoint", served_model="m"),
    _case(f"GET {_ONE}/served-models/{{served_model}}/build-logs", "xhffyy", name="$endpoint", served_model="m"),
    _case(f"GET {_ONE}/metrics", "xhyyyy", name="$endpoint"),
    _case(f"GET {_ONE}/openapi", "xhyyyy", name="$endpoint"),
    _case("POST /api/millpond/serving-endpoints/{name}/labels", "xhfyyy", name="$endpoint",
          body={"labels": [{"databricks_request_id": "01a21867-8f28-721e-aceb-4f6c94b0af3d", "label": 1}]}),
    _case("GET /api/millpond/serving-endpoints/{name}/predictions/{request_id}", "xhhhhh", name="$endpoint",
          request_id="01a21867-8f28-721e-aceb-4f6c94b0af3d"),
    _case("GET /api/millpond/scoring/target", "xhyyyy", q="name=models:/$model/$version"),
    _case("GET /api/millpond/scoring/transactions", "xhyyyy", q="table=$table&application=x"),
    _case("POST /api/millpond/scoring/invocations", "xhbbbb", q="model=models:/$model/$version", body={"inputs": [[1]]}),
    _case("POST /serving-endpoints/{name}/invocations", "xhfbbb", name="$endpoint", body={"inputs": [[1]]}),
    _case("POST /serving-endpoints/{name}/served-models/{served_model}/invocations", "xhfbbb", name="$endpoint",
          served_model="m", body={"inputs": [[1]]}),
    *(_case(f"POST /serving-endpoints/{what}", "xhfbbb", body={"model": "$endpoint", "input": []})
      for what in ("chat/completions", "completions", "embeddings", "responses")),
)  # fmt: skip


_TAGS = f"{_UC}/entity-tag-assignments"
_TABLE_TAGS = f"{_TAGS}/{{entity_type}}/{{entity_name:path}}/tags"
_POLICIES = "/api/2.1/tag-policies"
_RULES = f"{_UC}/policies"
_RULED = "{on_securable_type}/{on_securable_fullname}"
_ON_TABLE = {"on_securable_type": "TABLE", "on_securable_fullname": "$table"}
_ROLES = "/api/2.0/preview/accounts/access-control"

TAGS: Sequence[Case] = (
    _case(f"POST {_TAGS}", "xhfyyy", body={"entity_type": "tables", "entity_name": "$table", "tag_key": "$new", "tag_value": "v"}),
    _case(f"GET {_TABLE_TAGS}", "xhyyyy", entity_type="tables", entity_name="$table"),
    _case(f"GET {_TABLE_TAGS}/{{tag_key:path}}", "xhyyyy", entity_type="tables", entity_name="$table", tag_key="$own", own="tag"),
    _case(f"PATCH {_TABLE_TAGS}/{{tag_key:path}}", "xhfyyy", entity_type="tables", entity_name="$table", tag_key="$own", own="tag",
          q="update_mask=tag_value", body={"entity_type": "tables", "entity_name": "$table", "tag_key": "$own", "tag_value": "w"}),
    _case(f"DELETE {_TABLE_TAGS}/{{tag_key:path}}", "xhfyyy", entity_type="tables", entity_name="$table", tag_key="$own", own="tag"),
    _case(f"GET {_POLICIES}", "xyyyyy"),
    _case(f"POST {_POLICIES}", "xffffy", body={"tag_key": "$new", "values": [{"name": "a"}]}),
    _case(f"GET {_POLICIES}/{{tag_key:path}}", "xyyyyy", tag_key="$own", own="tag policy"),
    _case(f"PATCH {_POLICIES}/{{tag_key:path}}", "xffffy", tag_key="$own", own="tag policy", q="update_mask=description",
          body={"tag_key": "$own", "description": "d"}),
    _case(f"DELETE {_POLICIES}/{{tag_key:path}}", "xffffy", tag_key="$own", own="tag policy"),
    _case(f"GET {_ROLES}/assignable-roles", "xyyyyy", q="resource=accounts/1/tagPolicies/$own", own="tag policy id"),
    _case(f"GET {_ROLES}/rule-sets", "xyyyyy", q="name=accounts/1/tagPolicies/$own/ruleSets/default&etag=", own="tag policy id"),
    _case(f"PUT {_ROLES}/rule-sets", "xffffy", own="tag policy id", body={
        "name": "accounts/1/tagPolicies/$own/ruleSets/default", "rule_set": {
            "name": "accounts/1/tagPolicies/$own/ruleSets/default", "etag": "", "grant_rules": []}}),
    _case("GET /api/millpond/search", "xyyyyy", q="q=$cat"),
    _case(f"POST {_RULES}", "xhffyy", body={
        "name": "$new", "on_securable_type": "TABLE", "on_securable_fullname": "$table", "for_securable_type": "TABLE",
        "to_principals": ["$reader"], "policy_type": "POLICY_TYPE_ROW_FILTER", "row_filter": {
            "function_name": "$filter", "using": [{"alias": "c"}]},
        "match_columns": [{"alias": "c", "condition": "has_tag('system.certification_status')"}]}),
    _case(f"GET {_RULES}/{_RULED}", "xhffyy", q="include_inherited=true", **_ON_TABLE),
    _case(f"GET {_RULES}/{_RULED}/{{name}}", "xhffyy", name="$own", own="policy", **_ON_TABLE),
    _case(f"PATCH {_RULES}/{_RULED}/{{name}}", "xhffyy", name="$own", own="policy", body={"comment": "c"}, **_ON_TABLE),
    _case(f"DELETE {_RULES}/{_RULED}/{{name}}", "xhffyy", name="$own", own="policy", **_ON_TABLE),
)  # fmt: skip


_LINEAGE = "/api/2.0/lineage-tracking"
_METADATA = f"{_LINEAGE}/external-metadata"
_FLOW = {"source": {"external_metadata": {"name": "$own"}}, "target": {"table": {"name": "$table"}}}
_RELATION = "external_lineage_relationship"
_FLOW_IN_QUERY = f"{_RELATION}.source.external_metadata.name=$own&{_RELATION}.target.table.name=$table"

LINEAGE: Sequence[Case] = (
    _case(f"GET {_LINEAGE}/table-lineage", "xhyyyy", q="table_name=$table"),
    _case(f"GET {_LINEAGE}/column-lineage", "xhyyyy", q="table_name=$table&column_name=a"),
    _case(f"POST {_METADATA}", "xffffy", body={"name": "$new", "system_type": "OTHER", "entity_type": "report"}),
    _case(f"GET {_METADATA}", "xyyyyy"),
    _case(f"GET {_METADATA}/{{name}}", "xyyyyy", name="$own", own="external metadata"),
    _case(f"PATCH {_METADATA}/{{name}}", "xfffyy", name="$own", own="external metadata", q="update_mask=description",
          body={"name": "$own", "system_type": "OTHER", "entity_type": "report", "description": "d"}),
    _case(f"DELETE {_METADATA}/{{name}}", "xfffyy", name="$own", own="external metadata"),
    _case(f"POST {_LINEAGE}/external-lineage", "xhfyyy", own="external metadata", body=_FLOW),
    _case(f"PATCH {_LINEAGE}/external-lineage", "xhfyyy", own="external flow", q="update_mask=properties",
          body={**_FLOW, "properties": {"k": "v"}}),
    _case(f"GET {_LINEAGE}/external-lineage", "xhyyyy",
          q="object_info.table.name=$table&lineage_direction=UPSTREAM"),
    _case(f"DELETE {_LINEAGE}/external-lineage", "xhfyyy", own="external flow", q=_FLOW_IN_QUERY),
    _case("GET /api/millpond/lineage/graph", "xhyyyy", q="table_name=$table"),
    _case("GET /api/millpond/lineage/impact", "xhyyyy", q="table_name=$table"),
    *(
        _case(f"POST {path}", "xyyyyy", body={
            "eventTime": "2026-01-02T03:04:05Z", "eventType": "COMPLETE", "job": {"namespace": "x", "name": "y"},
            "run": {"runId": "01a21621-f743-7eed-8f33-333db4f43c4c"},
            "inputs": [{"namespace": "millpond", "name": "$table"}], "outputs": [{"namespace": "x", "name": "y"}]})
        for path in ("/api/v1/lineage", "/api/millpond/lineage/openlineage")
    ),
)  # fmt: skip


_AGAIN = "/api/millpond/reproductions"

REPRODUCTION: Sequence[Case] = (
    _case("GET /api/millpond/captures", "xyyyyy"),
    _case(
        "PUT /api/millpond/captures/{capture_id}/{part}", "xbbbbb", capture_id=f"{'0' * 32}-1", part="start", body={}
    ),
    _case("GET /api/millpond/runs/{run_id}/capture", "xhyyyy", run_id="$own", own="run"),
    _case("GET /api/millpond/runs/{run_id}/capture/bundle", "xhhhhh", run_id="$own", own="run"),
    _case(f"POST {_AGAIN}", "xhbbbb", own="run", body={"run_id": "$own"}),  # nothing was captured of it
    _case(f"GET {_AGAIN}", "xhyyyy", own="run", q="run_id=$own"),
    _case(f"GET {_AGAIN}/{{reproduction_id}}", "xhhhhh", reproduction_id="none"),
    _case(f"POST {_AGAIN}/{{reproduction_id}}/verdict", "xhhhhh", reproduction_id="none", body={"outcome": "failed"}),
    _case("GET /api/millpond/pins", "xhyyyy", q="table=$table"),
)


_LEVELS = "/api/2.0/permissions/{object_type}/{object_id:path}"

GOVERNANCE: Sequence[Case] = (
    *(
        case
        for kind, key in (("experiments", "$experiment"), ("serving-endpoints", "$endpoint_id"),
                          ("warehouses", "$warehouse"), ("queries", "$query"), ("jobs", "$job"), ("pipelines", "$pipeline"), ("directories", "$directory_id"))
        for case in (
            _case(f"GET {_LEVELS}/permissionLevels", "xhyyyy", object_type=kind, object_id=key),
            _case(f"GET {_LEVELS}", "xhyyyy", object_type=kind, object_id=key),
            _case(f"PATCH {_LEVELS}", "xhffyy", object_type=kind, object_id=key, body={
                "access_control_list": [{"user_name": "$owner", "permission_level": "CAN_MANAGE"}]}),
            _case(f"PUT {_LEVELS}", "xhhhhh", object_type=kind, object_id="none", body={"access_control_list": []}),
        )
    ),
    _case("GET /api/millpond/access/explain", "xhffyy",
          q="principal=$nobody&privilege=SELECT&securable_type=table&name=$table"),
    _case("GET /api/millpond/audit", "xhhhhy"),
)  # fmt: skip


_SECRETS = "/api/2.0/secrets"

SECRETS: Sequence[Case] = (
    _case(f"POST {_SECRETS}/scopes/create", "xyyyyy", body={"scope": "$new"}),
    _case(f"GET {_SECRETS}/scopes/list", "xyyyyy"),
    _case(f"POST {_SECRETS}/scopes/delete", "xhhhyy", body={"scope": "$own"}, own="scope"),
    _case(f"POST {_SECRETS}/put", "xhfyyy", body={"scope": "$scope", "key": "k", "string_value": "v"}),
    _case(f"GET {_SECRETS}/get", "xhyyyy", q="scope=$scope&key=k"),
    _case(f"GET {_SECRETS}/list", "xhyyyy", q="scope=$scope"),
    _case(f"POST {_SECRETS}/delete", "xhfyyy", body={"scope": "$scope", "key": "$own"}, own="secret"),
    _case(
        f"POST {_SECRETS}/acls/put", "xhffyy", body={"scope": "$scope", "principal": "$owner", "permission": "MANAGE"}
    ),
    _case(f"GET {_SECRETS}/acls/get", "xhffyy", q="scope=$scope&principal=$reader"),
    _case(f"GET {_SECRETS}/acls/list", "xhffyy", q="scope=$scope"),
    _case(f"POST {_SECRETS}/acls/delete", "xhffyy", body={"scope": "$scope", "principal": "$own"}, own="acl"),
    _case("POST /api/millpond/secrets/rotate-key", "xffffy"),
)


_W = "/api/2.0/sql/warehouses"
_S = "/api/2.0/sql/statements"
_Q = "/api/2.0/sql/queries"
_A, _A_OLD, _A_TEXT = "/api/2.0/sql/alerts", "/api/2.0/preview/sql/alerts", "/api/2.0/alerts"
_A_OURS = "/api/millpond/alerts"

SQL: Sequence[Case] = (
    _case(f"POST {_W}", "xyyyyy", body={"name": "$new", "cluster_size": "Small"}),
    _case(f"GET {_W}", "xyyyyy"),
    _case(f"GET {_W}/{{warehouse_id}}", "xhyyyy", warehouse_id="$warehouse"),
    _case(f"POST {_W}/{{warehouse_id}}/edit", "xhhhhy", warehouse_id="$own", own="warehouse", body={"name": "$new"}),
    _case(f"POST {_W}/{{warehouse_id}}/start", "xhyyyy", warehouse_id="$warehouse"),
    _case(f"POST {_W}/{{warehouse_id}}/stop", "xhhhhy", warehouse_id="$own", own="warehouse"),
    _case(f"DELETE {_W}/{{warehouse_id}}", "xhhhhy", warehouse_id="$own", own="warehouse"),
    _case("GET /api/2.0/sql/config/warehouses", "xyyyyy"),
    _case("PUT /api/2.0/sql/config/warehouses", "xnnnnn", body={}),
    _case("GET /api/2.0/preview/sql/data_sources", "xyyyyy"),
    _case(f"POST {_S}", "xyyyyy", body={"statement": "SELECT * FROM $table", "warehouse_id": "starter"}),
    _case(f"GET {_S}/{{statement_id}}", "xhhhyy", statement_id="$statement"),
    _case(f"POST {_S}/{{statement_id}}/cancel", "xhhhyy", statement_id="$statement"),
    _case(f"DELETE {_S}/{{statement_id}}", "xhhhyy", statement_id="$own", own="statement"),
    _case(f"GET {_S}/{{statement_id}}/result/chunks/{{index}}", "xhhhyy", statement_id="$statement", index="0"),
    _case(f"GET {_S}/{{statement_id}}/result/chunks/{{index}}/data", "xhhhyy", statement_id="$statement", index="0"),
    _case("GET /api/millpond/sql/statements/{statement_id}/csv", "xhhhyy", statement_id="$statement"),
    _case("POST /api/2.0/sql/sessions", "xyyyyy", body={"warehouse_id": "starter"}),
    _case("DELETE /api/2.0/sql/sessions/{session_id}", "xhhhyh", session_id="$own", q="warehouse_id=starter", own="session"),
    _case(f"POST {_Q}", "xyyyyy", body={"query": {"display_name": "$new", "query_text": "SELECT 1"}}),
    _case(f"GET {_Q}", "xyyyyy"),
    _case(f"GET {_Q}/{{query_id}}", "xhyyyy", query_id="$query"),
    _case(f"PATCH {_Q}/{{query_id}}", "xhfyyy", query_id="$query", body={
        "query": {"description": "d"}, "update_mask": "description"}),
    _case(f"DELETE {_Q}/{{query_id}}", "xhhhyy", query_id="$own", own="query"),
    _case("GET /api/2.0/sql/history/queries", "xyyyyy"),
    _case(f"POST {_A}", "xhyyyy", body={"alert": SAVED_ALERT}),
    _case(f"GET {_A}", "xyyyyy"),
    _case(f"GET {_A}/{{alert_id}}", "xhyyyy", alert_id="$alert"),
    _case(f"PATCH {_A}/{{alert_id}}", "xhfyyy", alert_id="$alert", body={"alert": {"notify_on_ok": True}, "update_mask": "notify_on_ok"}),
    _case(f"DELETE {_A}/{{alert_id}}", "xhhhyy", alert_id="$own", own="alert"),
    _case(f"POST {_A_OLD}", "xhyyyy", body=OLD_ALERT),
    _case(f"GET {_A_OLD}", "xyyyyy"),
    _case(f"GET {_A_OLD}/{{alert_id}}", "xhyyyy", alert_id="$alert"),
    _case(f"PUT {_A_OLD}/{{alert_id}}", "xhfyyy", alert_id="$alert", body=OLD_ALERT),
    _case(f"DELETE {_A_OLD}/{{alert_id}}", "xhhhyy", alert_id="$own", own="alert"),
    _case(f"POST {_A_TEXT}", "xyyyyy", body=TEXT_ALERT),
    _case(f"GET {_A_TEXT}", "xyyyyy"),
    _case(f"GET {_A_TEXT}/{{alert_id}}", "xhhhyy", alert_id="$own", own="text alert"),
    _case(f"PATCH {_A_TEXT}/{{alert_id}}", "xhhhyy", alert_id="$own", own="text alert", q="update_mask=display_name", body={"display_name": "n"}),
    _case(f"DELETE {_A_TEXT}/{{alert_id}}", "xhhhyy", alert_id="$own", own="text alert"),
    _case(f"POST {_A_OURS}/{{alert_id}}/evaluate", "xhfyyy", alert_id="$alert"),
    _case(f"GET {_A_OURS}/{{alert_id}}/evaluations", "xhyyyy", alert_id="$alert"),
)  # fmt: skip

_FS, _OT = "/api/2.0/feature-store", "/api/millpond/online-tables"
_SPEC = {"online_store": "$online_store", "online_table_name": "$cat.s.$new", "publish_mode": "TRIGGERED"}

ONLINE: Sequence[Case] = (
    _case(f"POST {_FS}/online-stores", "xyyyyy", body={"name": "$new", "capacity": "CU_1"}),
    _case(f"GET {_FS}/online-stores", "xyyyyy"),
    _case(f"GET {_FS}/online-stores/{{name}}", "xyyyyy", name="$online_store"),
    _case(f"PATCH {_FS}/online-stores/{{name}}", "xfffyy", name="$online_store", body={"capacity": "CU_2"}),
    _case(f"DELETE {_FS}/online-stores/{{name}}", "xfffyy", name="$own", own="online store"),
    _case(
        f"POST {_FS}/tables/{{source_table_name}}/publish",
        "xhfyyy",
        source_table_name="$keyed",
        body={"publish_spec": _SPEC},
    ),
    _case(f"DELETE {_FS}/online-tables/{{name}}", "xhffyy", name="$own", own="online table"),
    _case(f"GET {_OT}", "xyyyyy"),
    _case(f"GET {_OT}/{{name}}", "xhyyyy", name="$online_table"),
    _case(f"POST {_OT}/{{name}}/read", "xhyyyy", name="$online_table", body={"keys": [{"a": 1}]}),
)

_PC = "/api/millpond/parity-checks"

PARITY: Sequence[Case] = (
    _case(f"POST {_PC}", "xhyyyy", body={"subject": "$spec"}),
    _case(f"GET {_PC}", "xhyyyy", q="subject=$spec"),
    _case(f"GET {_PC}/{{check_id}}", "xhyyyy", check_id="$check"),
)

_F, _FE = "/api/millpond/features", "/api/2.0/feature-engineering/features"

FEATURES: Sequence[Case] = (
    _case(f"GET {_F}", "xyyyyy"),
    _case(f"GET {_F}/{{name}}", "xhyyyy", name="$keyed"),
    _case(f"GET {_F}/{{name}}/statistics", "xhyyyy", name="$keyed"),
    _case(f"GET {_F}/{{name}}/distribution", "xhyyyy", name="$keyed", q="column=a"),
    _case("GET /api/millpond/model-features", "xhyyyy", q="name=$model&version=$version"),
    _case(f"POST {_FE}", "xhfyyy", body="feature"),
    _case(f"GET {_FE}", "xhyyyy", q="catalog_name=$cat&schema_name=s"),
    _case(f"GET {_FE}/{{full_name}}", "xhyyyy", full_name="$feature"),
    _case(
        f"PATCH {_FE}/{{full_name}}",
        "xhffyy",
        full_name="$own",
        own="feature",
        q="update_mask=description",
        body={"description": "d"},
    ),
    _case(f"DELETE {_FE}/{{full_name}}", "xhffyy", full_name="$own", own="feature"),
)


_J = "/api/2.2/jobs"
_W, _NO_ID = "/api/millpond/worker", "0" * 32
_WORKER = {"worker_id": _NO_ID}
_LEASE = {**_WORKER, "lease": _NO_ID}
_ND = "/api/2.0/notification-destinations"
_TASKS = [{"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}]

JOBS: Sequence[Case] = (
    _case(f"POST {_J}/create", "xyyyyy", body={"name": "$new", "tasks": _TASKS}),
    _case(f"GET {_J}/get", "xhyyyy", q="job_id=$job"),
    _case(f"GET {_J}/list", "xyyyyy"),
    _case(f"POST {_J}/reset", "xhhhyy", own="job", body={"job_id": "$own", "new_settings": {"name": "$new"}}),
    _case(f"POST {_J}/update", "xhhhyy", own="job", body={"job_id": "$own", "new_settings": {"name": "$new"}}),
    _case(f"POST {_J}/delete", "xhhhyy", own="job", body={"job_id": "$own"}),
    _case(f"POST {_J}/run-now", "xhfyyy", body={"job_id": "$job"}),
    _case(f"POST {_J}/runs/submit", "xyyyyy", body={"tasks": _TASKS}),
    _case(f"GET {_J}/runs/get", "xhyyyy", q="run_id=$job_run"),
    _case(f"GET {_J}/runs/list", "xyyyyy"),
    _case(f"GET {_J}/runs/get-output", "xhyyyy", q="run_id=$job_run"),
    _case(f"GET {_J}/runs/export", "xhbbbb", q="run_id=$job_run"),  # which ran no notebook
    _case("GET /api/millpond/jobs/runs/notebook", "xhbbbb", q="run_id=$job_run"),
    _case(f"POST {_J}/runs/cancel", "xhfyyy", body={"run_id": "$job_run"}),
    _case(f"POST {_J}/runs/cancel-all", "xhfyyy", body={"job_id": "$job"}),
    _case(f"POST {_J}/runs/delete", "xhhhyy", own="job run", body={"run_id": "$own"}),
    _case(f"POST {_J}/runs/repair", "xhhhyy", own="job run", body={"run_id": "$own", "rerun_tasks": ["a"]}),
    _case("GET /api/millpond/jobs/runs/artifacts", "xhhhhh", q="run_id=$job_run"),
    _case("GET /api/millpond/jobs/runs/{run_id}/notifications", "xhyyyy", run_id="$job_run"),
    _case("GET /api/millpond/jobs/runs/{run_id}/usage", "xhyyyy", run_id="$job_run"),
    _case("GET /api/millpond/jobs/runs/{run_id}/lineage", "xhyyyy", run_id="$job_run"),
    # no role is a worker, whose account is good for these alone: robustness/test_workers.py
    _case(f"POST {_W}/register", "xfffff", body={**_WORKER, "name": "$new", "slots": 1, "version": "1", "python": "3"}),
    _case(f"POST {_W}/claim", "xfffff", body=_LEASE),
    _case(f"POST {_W}/beat", "xfffff", body={**_WORKER, "leases": []}),
    _case(f"POST {_W}/leave", "xfffff", body=_WORKER),
    _case(f"POST {_W}/code", "xfffff", body=_LEASE),
    _case(f"POST {_W}/begin", "xfffff", body=_LEASE),
    _case(f"PUT {_W}/output", "xfffff", q=f"worker_id={_NO_ID}&lease={_NO_ID}&name=log&start=0", body=b"x"),
    _case(f"POST {_W}/end", "xfffff", body={**_LEASE, "result": "SUCCESS"}),
    _case(f"POST {_W}/give-back", "xfffff", body=_LEASE),
    _case("GET /api/millpond/workers", "xffffy"),
    _case("POST /api/millpond/workers/{worker_id}/drain", "xffffh", worker_id=_NO_ID),
    _case("DELETE /api/millpond/workers/{worker_id}", "xffffh", worker_id=_NO_ID),
    _case(f"POST {_ND}", "xffffy", body={"display_name": "$new", "config": {"slack": {"url": "http://127.0.0.1:9/"}}}),
    _case(f"GET {_ND}", "xyyyyy"),
    _case(f"GET {_ND}/{{destination_id}}", "xyyyyy", own="destination", destination_id="$own"),
    _case(
        f"PATCH {_ND}/{{destination_id}}",
        "xffffy",
        own="destination",
        destination_id="$own",
        body={"display_name": "$new"},
    ),
    _case(f"DELETE {_ND}/{{destination_id}}", "xffffy", own="destination", destination_id="$own"),
)


_WS = "/api/2.0/workspace"

WORKSPACE: Sequence[Case] = (
    _case(f"GET {_WS}/get-status", "xhyyyy", q="path=$directory"),
    _case(f"GET {_WS}/list", "xhyyyy", q="path=$directory"),
    _case(f"GET {_WS}/export", "xhyyyy", q="path=$directory/n"),
    _case(f"POST {_WS}/import", "xhfyyy", body={"path": "$directory/$new", "content": "MQ==", "language": "PYTHON"}),
    _case(f"POST {_WS}/mkdirs", "xhfyyy", body={"path": "$directory/$new"}),
    _case(f"POST {_WS}/delete", "xhffyy", own="notebook", body={"path": "$directory/$own"}),
)


_CL, _PO, _IP, _LI, _CE = (
    "/api/2.1/clusters", "/api/2.0/policies/clusters", "/api/2.0/instance-pools", "/api/2.0/libraries", "/api/1.2",
)  # fmt: skip
_CLUSTER = {"cluster_id": "$cluster_id"}
_CONTEXT = {"clusterId": "$cluster_id", "contextId": "none", "commandId": "none", "language": "python", "command": "1"}
_CONTEXT_QUERY = "clusterId=$cluster_id&contextId=none&commandId=none"

COMPUTE: Sequence[Case] = (
    _case(f"GET {_CL}/get", "xhyyyy", q="cluster_id=$cluster_id"),
    _case(f"GET {_CL}/list", "xyyyyy"),
    _case(f"GET {_CL}/list-node-types", "xyyyyy"),
    _case(f"GET {_CL}/list-zones", "xyyyyy"),
    _case(f"GET {_CL}/spark-versions", "xyyyyy"),
    _case(f"POST {_CL}/events", "xhyyyy", body=_CLUSTER),
    _case(f"POST {_CL}/create", "xhhhyy", body=CLUSTER),
    _case(f"POST {_CL}/edit", "xhffbb", body={**CLUSTER, **_CLUSTER}),
    _case(f"POST {_CL}/update", "xhffbb", body={**_CLUSTER, "update_mask": "num_workers", "cluster": {"num_workers": 0}}),
    _case(f"POST {_CL}/start", "xhfbbb", body=_CLUSTER),
    _case(f"POST {_CL}/restart", "xhfbbb", body=_CLUSTER),
    _case(f"POST {_CL}/resize", "xhffbb", body={**_CLUSTER, "num_workers": 0}),
    _case(f"POST {_CL}/delete", "xhfyyy", own="cluster", body={"cluster_id": "$own"}),
    _case(f"POST {_CL}/permanent-delete", "xhffyy", own="cluster", body={"cluster_id": "$own"}),
    _case(f"POST {_CL}/pin", "xhfffy", body=_CLUSTER),
    _case(f"POST {_CL}/unpin", "xhfffy", body=_CLUSTER),
    _case(f"POST {_CL}/change-owner", "xhfffb", body={**_CLUSTER, "owner_username": "$owner"}),
    _case(f"POST {_LI}/install", "xhffyy", body=_CLUSTER),
    _case(f"POST {_LI}/uninstall", "xhffyy", body=_CLUSTER),
    _case(f"GET {_LI}/cluster-status", "xhyyyy", q="cluster_id=$cluster_id"),
    _case(f"GET {_LI}/all-cluster-statuses", "xyyyyy"),
    _case(f"POST {_PO}/create", "xffffy", body={"name": "$new"}),
    _case(f"POST {_PO}/edit", "xhhhhy", own="cluster policy", body={"policy_id": "$own", "name": "$new"}),
    _case(f"POST {_PO}/delete", "xhhhhy", own="cluster policy", body={"policy_id": "$own"}),
    _case(f"GET {_PO}/get", "xhhhyy", q="policy_id=$policy_id"),
    _case(f"GET {_PO}/list", "xyyyyy"),
    _case(f"GET {_PO}/get-compliance", "xhyyyy", q="cluster_id=$cluster_id"),
    _case(f"GET {_PO}/list-compliance", "xhhhyy", q="policy_id=$policy_id"),
    _case("GET /api/2.0/policy-families", "xyyyyy"),
    _case("GET /api/2.0/policy-families/{family_id}", "xyyyyy", family_id="job-cluster"),
    _case(f"POST {_IP}/create", "xffffy", body={"instance_pool_name": "$new", "node_type_id": "$node"}),
    _case(f"POST {_IP}/edit", "xhhhfy",
          body={"instance_pool_id": "$pool_id", "instance_pool_name": "p-$tail", "node_type_id": "$node", "max_capacity": 1}),
    _case(f"POST {_IP}/delete", "xhhhhy", own="pool", body={"instance_pool_id": "$own"}),
    _case(f"GET {_IP}/get", "xhhhyy", q="instance_pool_id=$pool_id"),
    _case(f"GET {_IP}/list", "xyyyyy"),
    _case(f"POST {_CE}/contexts/create", "xhbbbb", body=_CONTEXT),
    _case(f"GET {_CE}/contexts/status", "xhhhhh", q=_CONTEXT_QUERY),
    _case(f"POST {_CE}/contexts/destroy", "xhhhhh", body=_CONTEXT),
    _case(f"POST {_CE}/commands/execute", "xhbbbb", body=_CONTEXT),
    _case(f"GET {_CE}/commands/status", "xhhhhh", q=_CONTEXT_QUERY),
    _case(f"POST {_CE}/commands/cancel", "xhhhhh", body=_CONTEXT),
)  # fmt: skip


_BU = "/api/2.1/accounts/{account_id}/budgets"
_BUDGET = {"budget": {"display_name": "$new", "alert_configurations": [{"quantity_threshold": "1000000"}]}}
_QUOTA = {"holder": "user", "name": "$reader", "measure": "cost", "limit": 1000, "period": "DAY"}

BILLING: Sequence[Case] = (
    _case(f"GET {_BU}", "xffffy", account_id="$account"),
    _case(f"POST {_BU}", "xffffy", account_id="$account", body=_BUDGET),
    _case(f"GET {_BU}/{{budget_id}}", "xffffh", account_id="$account", budget_id="none"),
    _case(f"PUT {_BU}/{{budget_id}}", "xffffh", account_id="$account", budget_id="none", body=_BUDGET),
    _case(f"DELETE {_BU}/{{budget_id}}", "xffffh", account_id="$account", budget_id="none"),
    _case("GET /api/millpond/budgets", "xffffy"),
    _case("GET /api/millpond/usage", "xbbbby", q="user=$admin"),
    _case("GET /api/millpond/waste", "xyyyyy"),
    _case("GET /api/millpond/prices", "xyyyyy"),
    _case("POST /api/millpond/prices", "xffffy", body={"sku_name": "JOBS_GPU", "price": 0}),
    _case("GET /api/millpond/quotas", "xyyyyy"),
    _case("POST /api/millpond/quotas", "xffffy", body=_QUOTA),
    _case("PATCH /api/millpond/quotas/{quota_id}", "xffffy", own="quota", quota_id="$own", body={"limit": 2000}),
    _case("DELETE /api/millpond/quotas/{quota_id}", "xffffy", own="quota", quota_id="$own"),
)


_P = "/api/2.0/pipelines"
_P1 = f"{_P}/{{pipeline_id}}"
_SPEC = {"name": "$new", "catalog": "main", "schema": "s"}

PIPELINES: Sequence[Case] = (
    _case(f"POST {_P}", "xyyyyy", body=_SPEC),
    _case(f"GET {_P}", "xyyyyy"),
    _case(f"GET {_P1}", "xhyyyy", pipeline_id="$pipeline"),
    _case(f"PUT {_P1}", "xhhhyy", own="pipeline", pipeline_id="$own", body=_SPEC),
    _case(f"DELETE {_P1}", "xhhhyy", own="pipeline", pipeline_id="$own"),
    _case(f"POST {_P1}/clone", "xhnnnn", pipeline_id="$pipeline"),
    _case(f"POST {_P1}/updates", "xhfy[yb][yb]", pipeline_id="$pipeline", body={}),
    _case(f"GET {_P1}/updates", "xhyyyy", pipeline_id="$pipeline"),
    _case(f"GET {_P1}/updates/{{update_id}}", "xhyyyy", pipeline_id="$pipeline", update_id="$update"),
    _case(f"GET {_P1}/events", "xhyyyy", pipeline_id="$pipeline"),
    _case(f"POST {_P1}/stop", "xhfyyy", pipeline_id="$pipeline"),
    _case("GET /api/millpond/pipelines/{pipeline_id}/notifications", "xhyyyy", pipeline_id="$pipeline"),
    # which only the process of an update may: clients/test_sdk_pipelines.py
    _case("POST /api/millpond/pipelines/updates/events", "xfffff", body={"events": []}),
)


ALIASES = {
    "/api/2.0/clusters": _CL,
    "/api/2.1/jobs": _J,
    "/api/2.0/account/scim/v2": _SCIM,
    "/api/2.0/accounts/{account_id}/scim/v2": _SCIM,
    "/api/2.0/accounts/{account_id}/servicePrincipals": "/api/2.0/accounts/servicePrincipals",
    "/api/2.0/unity-catalog/temporary": f"{_UC}/temporary",
    "/api/2.0/preview/accounts/{account_id}/access-control": _ROLES,
    "/ajax-api/2.0/mlflow/webhooks": f"{_ML}/webhooks",
    "/ml/ajax-api/2.0/mlflow/webhooks": f"{_ML}/webhooks",
}
"""Beginnings of addresses that lead to the same handlers as others, which alone are tried."""

CASES = (
    *OPEN, *IDENTITY, *CATALOG, *FILES, *MODELS, *REGISTRY, *SERVING, *TAGS, *LINEAGE, *REPRODUCTION, *GOVERNANCE,
    *SECRETS, *SQL, *ONLINE, *PARITY, *FEATURES, *JOBS, *PIPELINES, *WORKSPACE, *COMPUTE, *BILLING,
)  # fmt: skip
ELSEWHERE = frozenset({"* /mlflow", "* /api/{rest:path}", "* "})
"""MLflow's routes and the pages have tests of their own (`clients/test_mlflow_isolation.py`, `browser`); what no room
answers is refused."""
