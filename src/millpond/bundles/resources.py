"""The kinds of resources: what may be said of each, and how it is made, changed and removed over HTTP."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from millpond.jobs.domain import STARTERS
from millpond.jobs.settings import checked
from millpond.kernel.errors import InvalidArgument, MillpondError
from millpond.pipelines.settings import checked as checked_pipeline

_UC = "/api/2.1/unity-catalog"
_JOBS = "/api/2.2/jobs"
_PIPELINES = "/api/2.0/pipelines"
_SERVING = "/api/2.0/serving-endpoints"
Declared = Mapping[str, Any]


class Server(Protocol):
    """The server's HTTP. Raises NotFound, AlreadyExists, or MillpondError with what the server said."""

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """JSON for JSON."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How things of a kind are handled."""

    name: str
    """As under `resources`."""
    fields: frozenset[str]
    """None of what has an id of its own, whose settings are checked as the server does it."""
    fixed: tuple[str, ...]
    """What cannot be changed: with another value, it is another thing."""
    holds_data: bool = False
    """Whether more than a definition goes with it."""
    has_own_id: bool = False
    """Whether the server gives it an id; all else is known by its full name."""

    def check(self, key: str, declared: Declared) -> None:
        """Raises InvalidArgument for what is not whole; what is unknown is refused by the planner."""
        for name in self.fixed:
            if not declared.get(name):
                raise InvalidArgument(f"{self.name}.{key} has no {name}.")


SCHEMAS = Kind(
    name="schemas", fields=frozenset({"name", "catalog_name", "comment", "properties", "grants"}),
    fixed=("catalog_name", "name"), holds_data=True,
)  # fmt: skip
VOLUMES = Kind(
    name="volumes", fields=frozenset({"name", "catalog_name", "schema_name", "volume_type", "storage_location",
                                      "comment", "grants"}),
    fixed=("catalog_name", "schema_name", "name"), holds_data=True,
)  # fmt: skip
MODELS = Kind(
    name="registered_models", fields=frozenset({"name", "catalog_name", "schema_name", "comment", "policy", "grants"}),
    fixed=("catalog_name", "schema_name", "name"), holds_data=True,
)  # fmt: skip
ENDPOINTS = Kind(
    name="model_serving_endpoints", fields=frozenset({"name", "config", "tags", "permissions"}), fixed=("name",)
)
PIPELINES = Kind(name="pipelines", fields=frozenset(), fixed=(), has_own_id=True)
JOBS = Kind(name="jobs", fields=frozenset(), fixed=(), has_own_id=True)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (SCHEMAS, VOLUMES, MODELS, ENDPOINTS, PIPELINES, JOBS)}
"""In the order in which they are made."""


def id_of(kind: Kind, declared: Declared) -> str:
    """What is known beforehand of the id: the full name, or nothing."""
    return ".".join(str(declared[name]) for name in kind.fixed)


def volumes_of(kind: Kind, declared: Declared) -> str:
    """The beginning of the paths of all files in a schema or volume; of a model there are none."""
    return "/Volumes/" + "/".join(str(declared[name]) for name in kind.fixed) + "/" if kind is not MODELS else "-"


def check_settings(kind: Kind, name: str, declared: Declared) -> None:
    """Raises InvalidArgument or NotImplementedHere, which name the job or pipeline, for settings that are not whole."""
    settings = {field: value for field, value in declared.items() if field != "permissions"}
    try:
        checked(settings) if kind is JOBS else checked_pipeline(settings)
    except MillpondError as error:
        raise type(error)(f"{name}: {error.message}") from error


def for_development(kind: Kind, declared: Declared, user: str) -> dict[str, Any]:
    """A resource as one developer's own: named after them, and started by nothing but them."""
    told = dict(declared)
    if kind is JOBS:
        told["name"] = f"[dev {user}] {told.get('name', 'Untitled')}"
        told["tags"] = {**(told.get("tags") or {}), "dev": user}
        for starter in STARTERS:
            if told.get(starter):
                told[starter] = {**told[starter], "pause_status": "PAUSED"}
    elif kind is PIPELINES:
        told |= {"name": f"[dev {user}] {told.get('name', 'Untitled')}", "development": True}
        told["tags"] = {**(told.get("tags") or {}), "dev": user}
    elif kind is not VOLUMES:
        told["name"] = f"dev_{user}_{told['name']}"
    return told


def short_name(user: str) -> str:
    """A user's name as a part of other names."""
    return re.sub(r"\W", "_", user.partition("@")[0]).lower()


class Handler:
    """Makes, changes and removes resources."""

    def __init__(self, server: Server, marker: str) -> None:
        """`marker` says in a job or pipeline which bundle's it is."""
        self._server = server
        self._marker = marker

    def exists(self, kind: Kind, resource_id: str) -> bool:
        """Whether it is there still. Raises NotFound."""
        self._server.call("GET", _place(kind, resource_id))
        return True

    def create(self, kind: Kind, key: str, declared: Declared) -> str:
        """Make it; its id. Raises AlreadyExists."""
        if kind is JOBS:
            settings = self._settings(key, declared)
            return str(self._server.call("POST", f"{_JOBS}/create", settings)["job_id"])
        if kind is PIPELINES:
            return str(self._server.call("POST", _PIPELINES, self._settings(key, declared))["pipeline_id"])
        body = {name: value for name, value in declared.items() if name not in ("grants", "permissions", "policy")}
        if kind is VOLUMES:
            body = {"volume_type": "MANAGED", **body}
        self._server.call("POST", _COLLECTIONS[kind.name], body)
        return id_of(kind, declared)

    def change(self, kind: Kind, key: str, resource_id: str, declared: Declared) -> None:
        """Make it as it is declared."""
        if kind is JOBS:
            body = {"job_id": int(resource_id), "new_settings": self._settings(key, declared)}
            self._server.call("POST", f"{_JOBS}/reset", body)
        elif kind is PIPELINES:
            self._server.call("PUT", _place(kind, resource_id), self._settings(key, declared))
        elif kind is ENDPOINTS:
            self._server.call("PUT", f"{_place(kind, resource_id)}/config", declared.get("config") or {})
            self._set_tags(resource_id, declared)
        else:
            body = {"comment": declared.get("comment") or ""}
            if kind is SCHEMAS:
                body["properties"] = declared.get("properties") or {}
            self._server.call("PATCH", _place(kind, resource_id), body)

    def delete(self, kind: Kind, resource_id: str) -> None:
        """Remove it. Raises NotFound."""
        if kind is JOBS:
            self.exists(kind, resource_id)
            self._server.call("POST", f"{_JOBS}/delete", {"job_id": int(resource_id)})
        else:
            self._server.call("DELETE", _place(kind, resource_id))

    def find_made(self, kind: Kind, key: str, declared: Declared) -> str | None:
        """What a deployment that broke off may have made: by its name, or by its marker."""
        if not kind.has_own_id:
            return id_of(kind, declared)
        if kind is PIPELINES:
            return self._find_pipeline(key)
        token = ""
        while True:
            page = self._server.call("GET", f"{_JOBS}/list?limit=100&page_token={quote(token, safe='')}")
            for job in page.get("jobs", ()):
                if (job["settings"].get("deployment") or {}).get("metadata_file_path") == self._mark(key):
                    return str(job["job_id"])
            if not (token := page.get("next_page_token") or ""):
                return None

    def _find_pipeline(self, key: str) -> str | None:
        token = ""
        while True:
            page = self._server.call("GET", f"{_PIPELINES}?max_results=100&page_token={quote(token, safe='')}")
            for each in page.get("statuses", ()):
                spec = self._server.call("GET", _place(PIPELINES, each["pipeline_id"]))["spec"]
                if (spec.get("deployment") or {}).get("metadata_file_path") == self._mark(key):
                    return str(each["pipeline_id"])
            if not (token := page.get("next_page_token") or ""):
                return None

    def set_rights(self, kind: Kind, resource_id: str, declared: Declared, before: Mapping[str, list[str]]) -> None:
        """Give what is declared, and take what was given before and is declared no more."""
        if declared.get("policy") is not None:
            self._set_policy(resource_id, declared["policy"])
        if declared.get("permissions") is not None:
            self._set_permissions(kind, resource_id, declared["permissions"])
        granted = grants_of(declared)
        changes = [
            {
                "principal": principal,
                "add": granted.get(principal, []),
                "remove": sorted(set(before.get(principal, ())) - set(granted.get(principal, ()))),
            }
            for principal in sorted({*granted, *before})
        ]
        if changes:
            path = f"{_UC}/permissions/{_SECURABLES[kind.name]}/{quote(resource_id, safe='')}"
            self._server.call("PATCH", path, {"changes": changes})

    def _set_permissions(self, kind: Kind, resource_id: str, permissions: list[Mapping[str, str]]) -> None:
        type_, object_id = kind.name, resource_id
        if kind is ENDPOINTS:
            type_, object_id = "serving-endpoints", self._server.call("GET", _place(kind, resource_id))["id"]
        given = [
            {"permission_level" if name == "level" else name: value for name, value in each.items()}
            for each in permissions
        ]
        self._server.call("PUT", f"/api/2.0/permissions/{type_}/{object_id}", {"access_control_list": given})

    def _set_policy(self, model: str, policy: Mapping[str, Any]) -> None:
        """What guards a model; JSON is YAML. An empty one is no policy."""
        text = json.dumps(policy, indent=1) if policy else ""
        body: dict[str, Any] = {"securable_type": "model", "name": model, "policy": text, "comment": self._marker}
        body["tables_may_follow"] = True  # jobs of the bundle make them
        self._server.call("POST", "/api/millpond/registry/policies", body)

    def _set_tags(self, resource_id: str, declared: Declared) -> None:
        wanted = {tag["key"]: tag for tag in declared.get("tags") or ()}
        there = self._server.call("GET", _place(ENDPOINTS, resource_id)).get("tags") or ()
        gone = [tag["key"] for tag in there if tag["key"] not in wanted]
        if wanted or gone:
            body = {"add_tags": [*wanted.values()], "delete_tags": gone}
            self._server.call("PATCH", f"{_place(ENDPOINTS, resource_id)}/tags", body)

    def _settings(self, key: str, declared: Declared) -> dict[str, Any]:
        settings = {name: value for name, value in declared.items() if name != "permissions"}
        return settings | {"deployment": {"kind": "BUNDLE", "metadata_file_path": self._mark(key)}}

    def _mark(self, key: str) -> str:
        return f"{self._marker}#{key}"


def grants_of(declared: Declared) -> dict[str, list[str]]:
    """Privileges by principal."""
    granted: dict[str, list[str]] = {}
    for each in declared.get("grants") or ():
        if set(each) != {"principal", "privileges"}:
            raise InvalidArgument("A grant has a principal and privileges, and no more.")
        granted.setdefault(str(each["principal"]), []).extend(map(str, each["privileges"]))
    return granted


_COLLECTIONS = {
    "schemas": f"{_UC}/schemas", "volumes": f"{_UC}/volumes", "registered_models": f"{_UC}/models",
    "model_serving_endpoints": _SERVING, "pipelines": _PIPELINES,
}  # fmt: skip
_SECURABLES = {"schemas": "schema", "volumes": "volume", "registered_models": "model"}


def _place(kind: Kind, resource_id: str) -> str:
    if kind is JOBS:
        return f"{_JOBS}/get?job_id={int(resource_id)}"
    return f"{_COLLECTIONS[kind.name]}/{quote(resource_id, safe='')}"
