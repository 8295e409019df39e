"""One of each object, and people who may do more and more with them."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from millpond.features import FeatureLookup
from millpond.features.spec import FeatureSpec
from millpond.features.specs import LANGUAGE
from tests.servers import Server, wait_until

ROLES = ("anonymous", "nobody", "reader", "writer", "owner", "admin")
"""Without a token; without a grant; who may see, read, query; who may also write; who owns; an administrator."""

JOB_TASKS = [{"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}]

CLUSTER = {
    "spark_version": "1.0.x-scala2.12", "instance_pool_id": "$pool_id", "num_workers": 1, "policy_id": "$policy_id",
}  # fmt: skip
"""Of which its pool has not enough: it waits."""

SAVED_ALERT = {
    "display_name": "$new", "query_id": "$query", "condition": {
        "op": "IS_NULL", "operand": {"column": {"name": "1"}}},
}  # fmt: skip
OLD_ALERT = {"name": "$new", "query_id": "$query", "options": {"column": "1", "op": ">", "value": 1}}
TEXT_ALERT = {
    "display_name": "$new", "query_text": "SELECT 1", "warehouse_id": "starter",
    "evaluation": {"source": {"name": "1"}, "comparison_operator": "IS_NULL"},
    "schedule": {"quartz_cron_schedule": "0 0 3 * * ?", "timezone_id": "UTC", "pause_status": "PAUSED"},
}  # fmt: skip

_READS = ["USE CATALOG", "USE SCHEMA", "SELECT", "READ VOLUME", "EXECUTE"]
_WRITES = [*_READS, "MODIFY", "WRITE VOLUME", "CREATE SCHEMA", "CREATE TABLE", "CREATE VOLUME", "CREATE FUNCTION",
           "CREATE MODEL", "CREATE MODEL VERSION", "APPLY TAG"]  # fmt: skip


@dataclass
class World:
    """A server with the objects; `names` are what stands for `$key` in the matrix."""

    server: Server
    client: httpx.Client
    tokens: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def ask(self, role: str, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """The answer to one call in a role; nothing follows redirects."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if self.tokens[role] else {}
        content = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        return self.client.request(method, self.server.url + path, headers=headers, **content, **more)

    def done(self, role: str, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a call that has to succeed."""
        answer = self.ask(role, method, path, self.filled(body))
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def filled(self, value: Any, more: Mapping[str, str] | None = None) -> Any:
        """A text or body with the names in place of `$key`; `$new` is one that nobody has used."""
        if isinstance(value, bytes) or value is None:
            return value
        text = value if isinstance(value, str) else json.dumps(value)
        names = {"new": f"n{uuid.uuid4().hex[:12]}", **self.names, **(more or {})}
        for key in sorted(names, key=len, reverse=True):
            text = text.replace(f"${key}", names[key])
        return text if isinstance(value, str) else json.loads(text)


def build(server: Server, client: httpx.Client) -> World:
    """Everything, as its owner makes it, and as much for reader and writer as their names say."""
    tail = uuid.uuid4().hex[:8]
    world = World(server, client)
    world.tokens = {"anonymous": "", "admin": server.token}
    for role in ROLES[1:5]:
        world.names[role] = f"{role}-{tail}@matrix.org"
        world.tokens[role] = server.new_user(world.names[role])
    world.names |= {"admin": server.user, "cat": f"mx_{tail}", "tail": tail}
    world.names["account"] = world.done("admin", "GET", "/.well-known/databricks-config")["workspace_id"]
    _catalog(world)
    _workspace(world)
    _people(world)
    _online(world)
    _compute(world)
    wait_until(lambda: not _updating(world), timeout_s=120, what="the endpoint having tried its model")
    return world


def _catalog(world: World) -> None:
    cat = world.names["cat"]
    make(world, "catalog", cat)
    make(world, "schema", "s")
    world.names |= {
        "schema": f"{cat}.s",
        "table": make(world, "table", "t"),
        "volume": make(world, "volume", "v"),
        "function": make(world, "function", "f"),
        "model": make(world, "model", "m"),
        "events": make(world, "events", "events"),
    }
    world.names["feature"] = make(world, "feature", "feature")
    world.names["version"] = make(world, "version", "")
    sql(world, "owner", f"CREATE FUNCTION {cat}.s.mask(v INT) RETURNS INT RETURN v")
    world.names |= {"filter": make(world, "sql function", "filter"), "mask": f"{cat}.s.mask"}
    world.names["staged"] = make(world, "version", "")
    make(world, "file", "a.txt")
    make(world, "directory", "d")
    table = world.done("owner", "GET", f"{_UNITY}/tables/{world.names['table']}")
    world.names |= {"table_id": table["table_id"], "location": table["storage_location"]}
    volume = world.done("owner", "GET", f"{_UNITY}/volumes/{world.names['volume']}")
    world.names["volume_id"] = volume["volume_id"]


def make(world: World, kind: str, name: str) -> str:
    """One more object of a kind, the owner's, in the schema where it has one; what it is called."""
    cat = world.names["cat"]
    home = {"name": name, "catalog_name": cat, "schema_name": "s"}
    if kind in _BODIES:
        path, body, answer = _BODIES[kind]
        made = world.done(*path.split(" "), world.filled(body, {"name": name}))
        if kind == "cluster":
            pairs = (("reader", "CAN_ATTACH_TO"), ("writer", "CAN_RESTART"))
            levels = [{"user_name": world.names[role], "permission_level": level} for role, level in pairs]
            path = f"/api/2.0/permissions/clusters/{made['cluster_id']}"
            world.done("owner", "PATCH", path, {"access_control_list": levels})
        return str(made[answer]) if answer else name
    if kind == "catalog":
        world.done("owner", "POST", f"{_UNITY}/catalogs", {"name": name})
        pairs = ((world.names["reader"], _READS), (world.names["writer"], _WRITES))
        changes = [{"principal": who, "add": privileges} for who, privileges in pairs]
        world.done("owner", "PATCH", f"{_UNITY}/permissions/catalog/{name}", {"changes": changes})
        return name
    if kind in _COLUMNS:
        sql(world, "owner", f"CREATE TABLE {cat}.s.{name} ({_COLUMNS[kind]})")
        if kind in _ALTERED:
            sql(world, "owner", world.filled(_ALTERED[kind], {"name": f"{cat}.s.{name}"}))
    elif kind == "sql function":
        sql(world, "owner", f"CREATE FUNCTION {cat}.s.{name}(v INT) RETURNS BOOLEAN RETURN v > 0")
    elif kind == "function":
        world.done("owner", "POST", f"{_UNITY}/functions", {"function_info": {**home, **FUNCTION}})
    elif kind == "feature":
        world.done("owner", "POST", "/api/2.0/feature-engineering/features", feature_body(world, name))
    elif kind == "version":
        return _version(world)
    elif kind == "file":
        world.done("owner", "PUT", f"/api/2.0/fs/files/Volumes/{cat}/s/v/{name}", b"hello")
        return name
    elif kind == "directory":
        world.done("owner", "PUT", f"/api/2.0/fs/directories/Volumes/{cat}/s/v/{name}")
        return name
    elif kind == "alias":
        world.done("owner", "PUT", f"{_UNITY}/models/{cat}.s.m/aliases/{name}", {"version_num": 1})
        return name
    elif kind == "endpoint":
        world.done("owner", "POST", "/api/2.0/serving-endpoints", endpoint_body(world, name))
        return name
    elif kind == "run":
        body = {"experiment_id": world.names["experiment"], "run_name": name}
        return str(world.done("owner", "POST", "/api/2.0/mlflow/runs/create", body)["run"]["info"]["run_id"])
    elif kind == "token":
        return str(world.done("owner", "POST", "/api/2.0/token/create", {})["token_info"]["token_id"])
    elif kind == "acl":
        somebody = f"u-{world.names['tail']}@matrix.org"
        body = {"scope": world.names["scope"], "principal": somebody, "permission": "READ"}
        world.done("owner", "POST", "/api/2.0/secrets/acls/put", body)
        return somebody
    elif kind == "external flow":
        source = {"external_metadata": {"name": make(world, "external metadata", name)}}
        flow = {"source": source, "target": {"table": {"name": "$table"}}}
        world.done("owner", "POST", "/api/2.0/lineage-tracking/external-lineage", world.filled(flow))
        return name
    elif kind in _RECORDS:
        return _recorded(world, kind, name)
    elif kind == "online table":
        spec = {"online_store": "$online_store", "online_table_name": f"$cat.s.{name}", "publish_mode": "TRIGGERED"}
        world.done("owner", "POST", f"{_FEATURES}/tables/{world.names['keyed']}/publish", {"publish_spec": spec})
    elif kind == "statement":
        return sql(world, "owner", "SELECT 1")
    else:
        raise AssertionError(kind)
    return f"{cat}.s.{name}"


_COLUMNS = {
    "table": "a INT",
    "keyed": "a INT NOT NULL, CONSTRAINT keyed_pk PRIMARY KEY (a)",
    "tagged": "a INT",
    "events": "a INT, at TIMESTAMP",
    "filtered": "a INT",
    "wide": "a INT, b INT",
}
_ALTERED = {
    "tagged": "SET TAG ON TABLE $name k = v",
    "filtered": "ALTER TABLE $name SET ROW FILTER $filter ON (a)",
}
_ML, _RECORD = "/api/2.0/mlflow", "/api/millpond/registry"
_RECORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "comment": (f"owner POST {_ML}/comments/create", {"comment": "hello"}),
    "request": (f"owner POST {_RECORD}/requests/create", {"alias": "$name"}),
    "webhook": (
        f"owner POST {_ML}/registry-webhooks/create",
        {"events": ["COMMENT_CREATED"], "http_url_spec": {"url": "http://127.0.0.1:9/"}, "model_name": "$model"},
    ),
    "mlflow webhook": (
        f"admin POST {_ML}/webhooks",
        {"url": "http://127.0.0.1:9/", "events": [{"entity": "PROMPT", "action": "CREATED"}]},
    ),
}


def _recorded(world: World, kind: str, name: str) -> str:
    """A comment, a request or a webhook; its id, or the alias that is asked for."""
    path, body = _RECORDS[kind]
    about = {"name": "$model", "version": "$version"} if kind in {"comment", "request"} else {"name": "$name"}
    made = world.done(*path.split(" "), world.filled({**about, **body}, {"name": name}))
    if kind == "request":
        return name
    (found,) = made.values()
    return str(found.get("id") or found["webhook_id"])


_FEATURES = "/api/2.0/feature-store"
_UNITY = "/api/2.1/unity-catalog"
_SCIM = "/api/2.0/preview/scim/v2"
_BODIES: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "schema": (f"owner POST {_UNITY}/schemas", {"name": "$name", "catalog_name": "$cat"}, "full_name"),
    "volume": (
        f"owner POST {_UNITY}/volumes",
        {"name": "$name", "catalog_name": "$cat", "schema_name": "s", "volume_type": "MANAGED"},
        "full_name",
    ),
    "model": (
        f"owner POST {_UNITY}/models",
        {"name": "$name", "catalog_name": "$cat", "schema_name": "s"},
        "full_name",
    ),
    "Users": (f"admin POST {_SCIM}/Users", {"userName": "$name@matrix.org"}, "id"),
    "ServicePrincipals": (f"admin POST {_SCIM}/ServicePrincipals", {"displayName": "$name"}, "id"),
    "Groups": (f"admin POST {_SCIM}/Groups", {"displayName": "$name"}, "id"),
    "external metadata": (
        "admin POST /api/2.0/lineage-tracking/external-metadata",
        {"name": "$name", "system_type": "OTHER", "entity_type": "report", "owner": "$owner"},
        None,
    ),
    "tag": (
        f"owner POST {_UNITY}/entity-tag-assignments",
        {"entity_type": "tables", "entity_name": "$table", "tag_key": "$name", "tag_value": "v"},
        None,
    ),
    "tag policy": ("admin POST /api/2.1/tag-policies", {"tag_key": "$name", "values": [{"name": "a"}]}, None),
    "cluster policy": ("admin POST /api/2.0/policies/clusters/create", {"name": "$name"}, "policy_id"),
    "pool": (
        "admin POST /api/2.0/instance-pools/create",
        {"instance_pool_name": "$name", "node_type_id": "$node", "max_capacity": 1},
        "instance_pool_id",
    ),
    "quota": (
        "admin POST /api/millpond/quotas",
        {"holder": "user", "name": "$reader", "measure": "cost", "limit": 1000, "period": "DAY"},
        "id",
    ),
    "cluster": ("owner POST /api/2.1/clusters/create", CLUSTER, "cluster_id"),
    "tag policy id": ("admin POST /api/2.1/tag-policies", {"tag_key": "$name", "values": [{"name": "a"}]}, "id"),
    "policy": (
        f"owner POST {_UNITY}/policies",
        {
            "name": "$name",
            "on_securable_type": "TABLE",
            "on_securable_fullname": "$table",
            "for_securable_type": "TABLE",
            "to_principals": ["account users"],
            "policy_type": "POLICY_TYPE_ROW_FILTER",
            "match_columns": [{"alias": "c", "condition": "has_tag('system.certification_status')"}],
            "row_filter": {"function_name": "$filter", "using": [{"alias": "c"}]},
        },
        None,
    ),
    "scope": ("owner POST /api/2.0/secrets/scopes/create", {"scope": "$name"}, None),
    "secret": ("owner POST /api/2.0/secrets/put", {"scope": "$scope", "key": "$name", "string_value": "v"}, None),
    "warehouse": ("admin POST /api/2.0/sql/warehouses", {"name": "$name", "cluster_size": "Small"}, "id"),
    "session": ("owner POST /api/2.0/sql/sessions", {"warehouse_id": "starter"}, "session_id"),
    "job": ("owner POST /api/2.2/jobs/create", {"name": "$name", "tasks": JOB_TASKS}, "job_id"),
    "job run": ("owner POST /api/2.2/jobs/runs/submit", {"run_name": "$name", "tasks": JOB_TASKS}, "run_id"),
    "pipeline": ("owner POST /api/2.0/pipelines", {"name": "$name", "catalog": "$cat", "schema": "s"}, "pipeline_id"),
    "notebook": (
        "owner POST /api/2.0/workspace/import",
        {"path": "/Users/$owner/m/$name", "content": "MQ==", "language": "PYTHON"},
        None,
    ),
    "destination": (
        "admin POST /api/2.0/notification-destinations",
        {"display_name": "$name", "config": {"slack": {"url": "http://127.0.0.1:9/"}}},
        "id",
    ),
    "online store": (f"owner POST {_FEATURES}/online-stores", {"name": "$name", "capacity": "CU_1"}, "name"),
    "alert": ("owner POST /api/2.0/sql/alerts", {"alert": SAVED_ALERT}, "id"),
    "text alert": ("owner POST /api/2.0/alerts", TEXT_ALERT, "id"),
    "query": (
        "owner POST /api/2.0/sql/queries",
        {"query": {"display_name": "$name", "query_text": "SELECT 1", "warehouse_id": "starter"}},
        "id",
    ),
}


def feature_body(world: World, name: str) -> dict[str, Any]:
    """What declares a feature of the table of events."""
    window = {"tumbling": {"window_duration": "86400s"}}
    return {
        "full_name": f"{world.names['cat']}.s.{name}",
        "source": {"delta_table_source": {"full_name": world.names["events"]}},
        "function": {"aggregation_function": {"sum": {"input": "a"}, "time_window": window}},
        "entities": [{"name": "a"}],
        "timeseries_column": {"name": "at"},
    }


def _version(world: World) -> str:
    """A version whose files a client has put where it was told."""
    body = {"model_name": "m", "catalog_name": "$cat", "schema_name": "s", "source": "runs:/none/model"}
    begun = world.done("owner", "POST", f"{_UNITY}/models/versions", body)
    files = Path(begun["storage_location"].removeprefix("file://"))
    files.mkdir(parents=True)
    (files / "MLmodel").write_text("flavors: {}")
    path = f"{_UNITY}/models/{world.names['model']}/versions/{begun['version']}/finalize"
    world.done("owner", "PATCH", path)
    return str(begun["version"])


FUNCTION = {
    "data_type": "INT",
    "full_data_type": "INT",
    "input_params": {"parameters": []},
    "routine_body": "SQL",
    "routine_definition": "1",
    "parameter_style": "S",
    "is_deterministic": True,
    "sql_data_access": "CONTAINS_SQL",
    "is_null_call": False,
    "security_type": "DEFINER",
    "specific_name": "f",
}


def executed(world: World, role: str, text: str) -> dict[str, Any]:
    """What became of a statement on the warehouse that is there from the start."""
    body = {"statement": text, "warehouse_id": "starter", "wait_timeout": "50s"}
    answer: dict[str, Any] = world.done(role, "POST", "/api/2.0/sql/statements", body)
    return answer


def sql(world: World, role: str, text: str) -> str:
    """The id of a statement that has to succeed."""
    done = executed(world, role, text)
    assert done["status"]["state"] == "SUCCEEDED", done
    return str(done["statement_id"])


def _compute(world: World) -> None:
    """A cluster that waits for its pool for ever, so that no process is started for it."""
    world.names["node"] = world.done("admin", "GET", "/api/2.1/clusters/list-node-types")["node_types"][0][
        "node_type_id"
    ]
    world.names["policy_id"] = make(world, "cluster policy", f"p-{world.names['tail']}")
    world.names["pool_id"] = make(world, "pool", f"p-{world.names['tail']}")
    for path, level in (("cluster-policies/$policy_id", "CAN_USE"), ("instance-pools/$pool_id", "CAN_ATTACH_TO")):
        levels = [{"user_name": world.names["owner"], "permission_level": level}]
        world.done("admin", "PATCH", world.filled(f"/api/2.0/permissions/{path}"), {"access_control_list": levels})
    world.names["cluster_id"] = make(world, "cluster", f"c-{world.names['tail']}")


def _workspace(world: World) -> None:
    tail = world.names["tail"]
    created = world.done("owner", "POST", "/api/2.0/mlflow/experiments/create", {"name": f"matrix-{tail}"})
    world.names["experiment"] = created["experiment_id"]
    levels = [
        {"user_name": world.names["reader"], "permission_level": "CAN_READ"},
        {"user_name": world.names["writer"], "permission_level": "CAN_EDIT"},
    ]
    path = f"/api/2.0/permissions/experiments/{world.names['experiment']}"
    world.done("owner", "PATCH", path, {"access_control_list": levels})
    _endpoint(world)
    scope = world.names["scope"] = make(world, "scope", f"scope-{tail}")
    make(world, "secret", "k")
    for role, level in (("reader", "READ"), ("writer", "WRITE")):
        body = {"scope": scope, "principal": world.names[role], "permission": level}
        world.done("owner", "POST", "/api/2.0/secrets/acls/put", body)
    world.names["warehouse"] = make(world, "warehouse", f"w-{tail}")
    world.names["statement"] = sql(world, "owner", f"SELECT * FROM {world.names['table']}")
    world.names["query"] = make(world, "query", f"q-{tail}")
    world.names["alert"] = make(world, "alert", f"a-{tail}")
    world.names["job"] = make(world, "job", f"j-{tail}")
    run = world.done("owner", "POST", "/api/2.2/jobs/run-now", {"job_id": world.names["job"]})
    world.names["job_run"] = str(run["run_id"])
    world.names["pipeline"] = make(world, "pipeline", f"p-{tail}")
    update = world.done("owner", "POST", f"/api/2.0/pipelines/{world.names['pipeline']}/updates", {})
    world.names["update"] = update["update_id"]  # which fails, as there are no sources
    world.names["directory"] = f"/Users/{world.names['owner']}/m"
    world.done("owner", "POST", "/api/2.0/workspace/mkdirs", {"path": "$directory"})
    make(world, "notebook", "n")
    status = world.done("owner", "GET", f"/api/2.0/workspace/get-status?path={world.names['directory']}")
    world.names["directory_id"] = str(status["object_id"])
    for kind, key, reads, writes, owns in (
        ("warehouses", "warehouse", "CAN_USE", "CAN_MONITOR", "CAN_MANAGE"),
        ("queries", "query", "CAN_VIEW", "CAN_EDIT", "CAN_MANAGE"),
        ("alerts", "alert", "CAN_READ", "CAN_EDIT", "CAN_MANAGE"),
        ("pipelines", "pipeline", "CAN_VIEW", "CAN_RUN", "CAN_MANAGE"),
        ("jobs", "job", "CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE"),
        ("directories", "directory_id", "CAN_READ", "CAN_EDIT", "CAN_MANAGE"),
    ):
        pairs = (("reader", reads), ("writer", writes), ("owner", owns))
        levels = [{"user_name": world.names[role], "permission_level": level} for role, level in pairs]
        path = f"/api/2.0/permissions/{kind}/{world.names[key]}"
        world.done("admin", "PATCH", path, {"access_control_list": levels})


def _endpoint(world: World) -> None:
    """An endpoint whose model cannot be loaded: rights count before that. It has an inference table."""
    name = world.names["endpoint"] = f"e-{world.names['tail']}"
    body = endpoint_body(world, name)
    body["config"]["auto_capture_config"] = {"catalog_name": world.names["cat"], "schema_name": "s"}
    made = world.done("owner", "POST", "/api/2.0/serving-endpoints", body)
    world.names["endpoint_id"] = made["id"]
    levels = [
        {"user_name": world.names["reader"], "permission_level": "CAN_VIEW"},
        {"user_name": world.names["writer"], "permission_level": "CAN_QUERY"},
    ]
    path = f"/api/2.0/permissions/serving-endpoints/{made['id']}"
    world.done("owner", "PATCH", path, {"access_control_list": levels})


def _updating(world: World) -> bool:
    """While an update is under way, another one is refused to everybody."""
    told = world.done("owner", "GET", f"/api/2.0/serving-endpoints/{world.names['endpoint']}")
    return bool(told["state"]["config_update"] == "IN_PROGRESS")


def endpoint_body(world: World, name: str) -> dict[str, Any]:
    """What makes an endpoint."""
    entity = {"entity_name": world.names["model"], "entity_version": world.names["version"], "name": "m"}
    return {"name": name, "config": {"served_entities": [entity]}}


def _people(world: World) -> None:
    tail = world.names["tail"]
    world.names |= {"group_id": make(world, "Groups", f"g-{tail}"), "user_id": make(world, "Users", f"u-{tail}")}
    principal = world.done("admin", "POST", f"{_SCIM}/ServicePrincipals", {"displayName": f"sp-{tail}"})
    world.names |= {"principal_id": principal["id"], "application_id": principal["applicationId"]}
    tokens = world.done("owner", "GET", "/api/2.0/token/list")["token_infos"]
    world.names["token_id"] = tokens[0]["token_id"]


def _online(world: World) -> None:
    """A store, a table with a key, and what of it is online."""
    world.names["keyed"] = make(world, "keyed", "keyed")
    world.names["online_store"] = make(world, "online store", f"s-{world.names['tail']}")
    name = world.names["online_table"] = make(world, "online table", "online")
    path = f"/api/millpond/online-tables/{name}"
    wait_until(lambda: world.done("owner", "GET", path)["state"] == "ONLINE", timeout_s=60, what="the table online")
    world.names["spec"] = f"{world.names['cat']}.s.spec"
    home = {"name": "spec", "catalog_name": "$cat", "schema_name": "s"}
    spec = {**FUNCTION, "routine_body": "EXTERNAL", "external_language": LANGUAGE, "routine_definition": _spec(world)}
    world.done("owner", "POST", f"{_UNITY}/functions", {"function_info": {**home, **spec}})
    body = {"subject": "$spec"}
    world.names["check"] = world.done("owner", "POST", "/api/millpond/parity-checks", body)["check"]["id"]


def _spec(world: World) -> str:
    return FeatureSpec(wanted=(FeatureLookup(world.names["keyed"], "a"),)).to_yaml()
