"""What Databricks calls an act: `serviceName`, `actionName` and the names of parameters, where it has them.

Source: "Audit log reference" of the Databricks documentation. What it does not log (Spark Connect's plans, MLflow's
runs, invocations of endpoints, pages) is named in the same manner.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from millpond.audit.domain import Entry
from millpond.kernel.clock import from_epoch_us


@dataclass(frozen=True)
class Named:
    """An act under Databricks' names."""

    service: str
    action: str
    params: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    name: str = ""


def entry_of_event(event: Mapping[str, Any]) -> Entry:
    """The entry for an event as the journal wrote it. Raises KeyError or TypeError for what is none."""
    door, act, kind, name = event["door"], event["act"], event["kind"], event["name"]
    if kind == "path":
        named = request(act, name)
    elif door == "spark" and kind == "plan":
        named = Named("sparkConnect", _lower_first(act), {"statement": name} if name else {}, kind="plan")
    else:
        named = change(kind, act)
        named = Named(named.service, named.action, named.params, kind, name)
    details = dict(event["details"])
    kind, name = _object_of(event, named)
    kind, name = details.pop("object_kind", kind), details.pop("object_name", name)
    for what, objects in _told(event["objects"]).items():
        details[what] = ", ".join(objects)
    copied = ("id", "actor_id", "actor", "caller", "address", "agent", "session", "request", "object_id")
    return Entry(
        **{key: event[key] for key in copied},
        time=from_epoch_us(event["time_us"]),
        service=named.service,
        action=named.action,
        params={**named.params, **details},
        kind=kind,
        name=name,
        status=int(event["status"]),
        error=event["error"],
    )


def _object_of(event: Mapping[str, Any], named: Named) -> tuple[str, str]:
    """What the act names, else the thing to which it did most."""
    if named.name and named.kind != "path":
        return named.kind, named.name
    if event["kind"] in {"path", "plan"} and event["objects"]:
        _, kind, name = min(event["objects"], key=lambda item: _IMPORTANCE.get(item[0], len(_IMPORTANCE)))
        return kind, name
    return named.kind, named.name


_IMPORTANCE = {act: rank for rank, act in enumerate(("manage", "write", "create in", "use", "read", "see"))}


def _told(objects: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Names of tables and other things by what was done to them; where something was read, that it was seen goes
    without saying."""
    found: dict[str, list[str]] = {}
    for act, kind, name in objects:
        what = {"see": "seen", "read": "reads", "write": "writes", "use": "uses"}.get(act, act.replace(" ", "_"))
        found.setdefault(what, []).append(f"{kind} {name}")
    if "reads" in found or "writes" in found:
        found.pop("seen", None)
    return found


# -- acts of services -------------------------------------------------------------------------------------------------

_SERVICE_OF_KIND = {
    "catalog": "unityCatalog", "schema": "unityCatalog", "table": "unityCatalog", "volume": "unityCatalog",
    "function": "unityCatalog", "model": "unityCatalog",  "user": "accounts", "group": "accounts",
    "service principal": "accounts", "token": "accounts", "client secret": "accounts", "workspace": "workspace",
    "endpoint": "serverlessRealTimeInference", "served model": "serverlessRealTimeInference",
    "experiment": "mlflowExperiment", "run": "mlflowExperiment",
    "online store": "featureStore", "online table": "featureStore",
    "audit": "audit", "files": "unityCatalog", "column": "unityCatalog", "tag policy": "unityCatalog",
    "policy": "unityCatalog", "alert": "databrickssql", "job": "jobs", "job run": "jobs", "task run": "jobs",
    "worker": "jobs", "pipeline": "deltaPipelines",
    "cluster": "clusters", "cluster policy": "clusterPolicies", "instance pool": "instancePools",
}  # fmt: skip
_NOUN_OF_KIND = {"model": "RegisteredModel", "endpoint": "ServingEndpoint", "experiment": "MlflowExperiment"}
_TAGGING = {"tag": "updateEntityTagAssignment", "untag": "deleteEntityTagAssignment"}
_VERBS = {"drop": "delete", "change": "update"}
_KNOWN = {
    ("user", "create"): "add",
    ("user", "delete"): "delete",
    ("group", "delete"): "removeGroup",
    ("user", "sign in"): "login",
    ("service principal", "sign in"): "login",
    ("user", "change password"): "changePassword",
    ("token", "create"): "generateDbToken",
    ("token", "revoke"): "revokeDbToken",
    ("endpoint", "update"): "putServingEndpointConfig",
    ("endpoint", "tag"): "patchServingEndpointTags",
    ("online table", "publish"): "publishTable",
    ("audit", "export"): "exportAuditLog",
    ("cluster", "create"): "create",
    ("cluster", "update"): "edit",
    ("cluster", "start"): "start",
    ("cluster", "restart"): "restart",
    ("cluster", "resize"): "resize",
    ("cluster", "terminate"): "delete",
    ("cluster", "delete"): "permanentDelete",
    ("cluster", "give"): "changeClusterOwner",
    ("cluster policy", "create"): "create",
    ("cluster policy", "update"): "edit",
    ("cluster policy", "delete"): "delete",
    ("instance pool", "create"): "create",
    ("instance pool", "update"): "edit",
    ("instance pool", "delete"): "delete",
    ("job", "create"): "create",
    ("job", "update"): "update",
    ("job", "delete"): "delete",
    ("job", "run"): "runNow",
    ("job", "trigger"): "runTriggered",
    ("job run", "submit"): "submitRun",
    ("job run", "cancel"): "cancel",
    ("job run", "repair"): "repairRun",
    ("job run", "delete"): "deleteRun",
    ("pipeline", "create"): "create",
    ("pipeline", "update"): "edit",
    ("pipeline", "delete"): "delete",
    ("pipeline", "start"): "startUpdate",
    ("pipeline", "stop"): "stop",
    ("pipeline", "finish"): "finishUpdate",
    ("task run", "start"): "runStart",
    ("task run", "succeed"): "runSucceeded",
    ("task run", "fail"): "runFailed",
    ("task run", "claim"): "runClaimed",
}


def change(kind: str, act: str) -> Named:
    """Service and action of what a service did or refused."""
    service = _SERVICE_OF_KIND.get(kind, "workspace")
    if service == "unityCatalog" and act in _TAGGING:
        return Named(service, _TAGGING[act])
    if (kind, act) in _KNOWN:
        return Named(service, _KNOWN[kind, act])
    noun = _NOUN_OF_KIND.get(kind, _camel(kind))
    return Named(service, _lower_first(_camel(_VERBS.get(act, act))) + noun)


# -- requests ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def request(method: str, path: str) -> Named:
    """What an HTTP request does, by its method and path."""
    for pattern, name in _PATHS:
        match = pattern.fullmatch(path)
        if match is not None:
            found = name(method, match)
            params = {"method": method, "path": path, **found.params}
            return Named(found.service, found.action, params, found.kind or "path", found.name)
    raise AssertionError("unreachable: the last pattern matches all")


_VERB_OF_METHOD = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "update"}
_UNITY_ACTIONS = {
    "temporary-table-credentials": "generateTemporaryTableCredential",
    "temporary-volume-credentials": "generateTemporaryVolumeCredential",
    "temporary-path-credentials": "generateTemporaryPathCredential",
    "metastore_summary": "getMetastoreSummary",
    "current-metastore-assignment": "getMetastoreAssignment",
    "table-summaries": "listTableSummaries",
}
_UNITY_NOUNS = {"models": "RegisteredModel", "versions": "ModelVersion", "aliases": "RegisteredModelAlias"}


def _unity(method: str, match: re.Match[str]) -> Named:
    """Paths are nouns and names in turn: `tables/main.default.t`, `models/m/versions/3`."""
    parts = match["rest"].strip("/").split("/")
    nouns, name = parts[::2], unquote("/".join(parts[1::2]))
    if nouns[0] in _UNITY_ACTIONS:
        return Named("unityCatalog", _UNITY_ACTIONS[nouns[0]])
    noun = _UNITY_NOUNS.get(nouns[-1], _camel(_singular(nouns[-1])))
    kind = _words(_singular(nouns[0]))
    verb = _verb(method, named=len(parts) % 2 == 0)
    return Named("unityCatalog", verb + (_plural(noun) if verb == "list" else noun), _full_name(name), kind, name)


def _full_name(name: str) -> dict[str, str]:
    return {"full_name_arg": name} if name else {}


def _mlflow(method: str, match: re.Match[str]) -> Named:
    """Paths are a noun and a verb with its object: `runs/log-metric`, `experiments/get-by-name`."""
    noun, _, verb = match["rest"].strip("/").partition("/")
    service = "modelRegistry" if noun in {"registered-models", "model-versions"} else "mlflowExperiment"
    name = _MLFLOW_NOUNS.get(noun, _camel(_singular(noun)))
    first, _, rest = verb.partition("/")[0].partition("-")
    first = first if first.isalpha() else ""
    return Named(service, (first or _verb(method, named=bool(verb))) + name + _camel(rest))


_MLFLOW_NOUNS = {"experiments": "MlflowExperiment", "runs": "MlflowRun"}


def _artifacts(method: str, match: re.Match[str]) -> Named:
    verb = {"GET": "get", "HEAD": "get", "DELETE": "delete"}.get(method, "put")
    return Named("mlflowExperiment", f"{verb}MlflowArtifact")


def _files(method: str, match: re.Match[str]) -> Named:
    noun = "File" if match["what"] == "files" else "Directory"
    verb = {"GET": "get", "HEAD": "getMetadataOf", "PUT": "put", "DELETE": "delete"}.get(method, "put")
    path = unquote(match["path"])
    return Named("filesystem", f"{verb}{noun}", {"volume_path": path}, noun.lower(), path)


def _presigned(method: str, match: re.Match[str]) -> Named:
    return Named("filesystem", _lower_first(_camel(match["what"])))


def _serving(method: str, match: re.Match[str]) -> Named:
    name = unquote(match["name"] or "")
    sub = (match["rest"] or "").strip("/")
    verb = _verb(method, named=bool(name))
    action = f"{verb}ServingEndpoints" if verb == "list" else f"{verb}ServingEndpoint"
    if sub:
        action = ("put" if method == "PUT" else verb) + "ServingEndpoint" + _camel(sub.rpartition("/")[2])
    return Named("serverlessRealTimeInference", action, {"name": name} if name else {}, "endpoint", name)


def _invocation(method: str, match: re.Match[str]) -> Named:
    name = unquote(match["name"])
    return Named("serverlessRealTimeInference", "queryServingEndpoint", {"name": name}, "endpoint", name)


_SCIM_VERBS = {"Users": {"create": "add", "delete": "delete"}, "Groups": {"delete": "removeGroup"}}


def _scim(method: str, match: re.Match[str]) -> Named:
    what, target = match["what"], match["id"] or ""
    verb = _verb(method, named=bool(target))
    noun = _camel(what) if verb == "list" else _singular(what)
    action = _SCIM_VERBS.get(what, {}).get(verb, verb + noun)
    kind = _words(_singular(what))
    return Named("accounts", action, {"targetUserId": target} if target else {}, kind, target)


def _tokens(method: str, match: re.Match[str]) -> Named:
    last = match["rest"].strip("/").rpartition("/")[2]
    known = {"create": "generateDbToken", "delete": "revokeDbToken", "list": "listTokens"}
    verb = {"POST": "generate", "DELETE": "revoke", "PATCH": "update"}.get(method)
    return Named("accounts", known.get(last) or (f"{verb}DbToken" if verb else "listTokens"), kind="token")


def _fixed(service: str, action: str) -> Callable[[str, re.Match[str]], Named]:
    return lambda _method, _match: Named(service, action)


def _other(method: str, match: re.Match[str]) -> Named:
    """An API of ours or one that we do not have: its path is all there is to say."""
    return Named("workspace", _verb(method, named=True) + "Api")


def _page(method: str, match: re.Match[str]) -> Named:
    return Named("workspace", "viewPage" if method in {"GET", "HEAD"} else _verb(method, named=True) + "Page")


_MLFLOW = r"(?:/ml)?/(?:ajax-)?api/[23]\.0/"
_PATHS: tuple[tuple[re.Pattern[str], Callable[[str, re.Match[str]], Named]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (r"/api/2\.[01]/unity-catalog/(?P<rest>.+)", _unity),
        (_MLFLOW + r"mlflow-artifacts/.*", _artifacts),
        (_MLFLOW + r"mlflow/(?:upload-artifact|get-artifact).*", _artifacts),
        (_MLFLOW + r"mlflow/(?P<rest>.+)", _mlflow),
        (r"(?:/ml)?(?:/model-versions)?/get-artifact", _artifacts),
        (r"/api/2\.0/fs/(?P<what>files|directories)(?P<path>/.*)", _files),
        (r"/api/2\.0/fs/(?P<what>[a-z-]+)", _presigned),
        (r"/serving-endpoints/(?P<name>[^/]+)/.*", _invocation),
        (r"/api/2\.0/serving-endpoints(?:/(?P<name>[^/]+)(?P<rest>/.*)?)?", _serving),
        (r"/api/2\.\d/(?:preview|account)/scim/v2/(?P<what>[A-Za-z]+)(?:/(?P<id>.*))?", _scim),
        (r"/api/2\.0/accounts/[^/]+/scim/v2/(?P<what>[A-Za-z]+)(?:/(?P<id>.*))?", _scim),
        (r"/api/2\.0/token(?:-management)?/(?P<rest>.*)", _tokens),
        (r"/oidc/v1/token", _fixed("accounts", "oauthTokenIssued")),
        (r"/sign-in", _fixed("accounts", "login")),
        (r"/sign-out", _fixed("accounts", "logout")),
        (r"/api/millpond/audit.*", _fixed("audit", "getAuditLog")),
        (r"(?:/ml)?/(?:ajax-)?api/.*", _other),
        (r".*", _page),
    )
)


def _verb(method: str, *, named: bool) -> str:
    if method == "DELETE":
        return "delete"
    return "list" if method == "GET" and not named else _VERB_OF_METHOD.get(method, method.lower())


def _singular(noun: str) -> str:
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    if noun.endswith("ses"):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") else noun


def _plural(noun: str) -> str:
    if noun.endswith("y"):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith("s") else "s")


def _camel(words: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[\s_/-]+", words) if word)


def _words(noun: str) -> str:
    """`ServicePrincipal` and `table-summary` as users write them."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[-_]", " ", noun).lower()


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
