"""A bundle's files, read and merged for a target.

Source: "Declarative Automation Bundles configuration reference" of the Databricks documentation.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond.kernel.errors import InvalidArgument, NotFound, NotImplementedHere

FILE = "databricks.yml"
FILES_PATH = "${workspace.file_path}"
_TOP = frozenset({"bundle", "include", "variables", "workspace", "resources", "targets"})
_INCLUDED = frozenset({"resources", "variables", "targets"})
_TARGET = frozenset({"mode", "default", "variables", "workspace", "resources"})
_FILES = (("spark_python_task", "python_file"), ("notebook_task", "notebook_path"))
"""Where a task says which file of the bundle it runs."""
_SOURCES = (("notebook", "path"), ("file", "path"), ("glob", "include"))
"""Where a library of a pipeline does."""
_BELOW = "/**"
_KEYED = {"tasks": "task_key", "environments": "environment_key", "parameters": "name"}
"""Lists whose items have keys: an override changes the item of its key; other lists are put after one another."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle as it is for a target; its references are not resolved."""

    name: str
    target: str
    development: bool
    root: Path
    root_path: str
    """A directory of a volume, for its files and state."""
    variables: Mapping[str, Any]
    resources: Mapping[str, Mapping[str, Any]]
    """By kind and key."""


def read_bundle(root: Path, target: str | None, given: Mapping[str, str]) -> Bundle:
    """The bundle of a directory for a target, or its default. Raises NotFound, InvalidArgument, NotImplementedHere."""
    main = _read(root / FILE, root)
    known(main, _TOP, FILE)
    merged = dict(main)
    for path in _included(root, main.get("include") or []):
        part = _read(path, root)
        known(part, _INCLUDED, path.name)
        merged = merge(merged, part)
    bundle = _mapping(merged.get("bundle"), "bundle")
    known(bundle, {"name"}, "bundle")
    if not bundle.get("name"):
        raise InvalidArgument(f"{FILE} has no bundle.name.")
    name, chosen = _target(_mapping(merged.get("targets"), "targets"), target)
    workspace = merge(_mapping(merged.get("workspace"), "workspace"), _mapping(chosen.get("workspace"), "workspace"))
    known(workspace, {"root_path"}, "workspace")
    return Bundle(
        name=str(bundle["name"]),
        target=name,
        development=_is_development(name, chosen.get("mode")),
        root=root,
        root_path=_root_path(workspace),
        variables=_variables(merged, chosen, given),
        resources=merge(_mapping(merged.get("resources"), "resources"), _mapping(chosen.get("resources"), "resources")),
    )


def known(found: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """Raises NotImplementedHere for the first key that is none of some names."""
    for name in found:
        if name not in set(names):
            raise NotImplementedHere(f"{where} has {str(name)[:60]}, which bundles do not have here.")


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """One tree laid over another."""
    merged = dict(under)
    for name, value in over.items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = merge(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            merged[name] = _merge_lists(before, value, _KEYED.get(name))
        else:
            merged[name] = value
    return merged


def _merge_lists(under: list[Any], over: list[Any], key: str | None) -> list[Any]:
    if key is None:
        return [*under, *over]
    items: dict[Any, Any] = {}
    for item in (*under, *over):
        items[item.get(key)] = merge(items.get(item.get(key), {}), item)
    return list(items.values())


def _read(path: Path, root: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]  # ships no types; here, so that other commands start without it

    if not path.is_file():
        raise NotFound(f"{path} does not exist; a bundle is a directory with {FILE}.")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path.name} is not YAML: {error}") from error
    told = _mapping(found, path.name)
    for part in (told, *_mapping(told.get("targets"), "targets").values()):
        resources = _mapping(_mapping(part, path.name).get("resources"), "resources")
        for job in _mapping(resources.get("jobs"), "jobs").values():
            _place_scripts(_mapping(job, "a job").get("tasks") or (), path.parent, root)
        for pipeline in _mapping(resources.get("pipelines"), "pipelines").values():
            _place_sources(_mapping(pipeline, "a pipeline"), path.parent, root)
    return told


def _place_scripts(tasks: Iterable[Any], directory: Path, root: Path) -> None:
    """Let code of the bundle be where its files are deployed. Paths in YAML are relative to their file."""
    for task in tasks:
        if isinstance(nested := (task.get("for_each_task") or {}).get("task"), dict):
            _place_scripts([nested], directory, root)
        for kind, name in _FILES:
            code = task.get(kind) or {}
            _place(code, name, directory, root, f"Task '{task.get('task_key')}'")


def _place_sources(pipeline: dict[str, Any], directory: Path, root: Path) -> None:
    """The same for a pipeline."""
    what = f"Pipeline '{pipeline.get('name')}'"
    _place(pipeline, "root_path", directory, root, what)
    for library in pipeline.get("libraries") or ():
        for kind, name in _SOURCES:
            if isinstance(source := _mapping(library, "a library").get(kind), dict):
                _place(source, name, directory, root, what)


def _place(holder: dict[str, Any], name: str, directory: Path, root: Path, what: str) -> None:
    """Let a path that is in the bundle be where that is deployed. Raises InvalidArgument for one that is not there."""
    path = str(holder.get(name) or "")
    if not path or path.startswith(("/", "$", "dbfs:")):
        return
    plain, below = path.removesuffix(_BELOW), _BELOW if path.endswith(_BELOW) else ""
    place = (directory / plain).resolve()
    kind = "directory" if below or name == "root_path" else "file"
    found = place.is_dir() if kind == "directory" else place.is_file()
    if not found or not place.is_relative_to(root.resolve()):
        raise InvalidArgument(f"{what} names {path}, which is no {kind} of the bundle.")
    inside = place.relative_to(root.resolve()).as_posix()
    holder[name] = FILES_PATH + ("" if inside == "." else f"/{inside}") + below


def _included(root: Path, patterns: list[Any]) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in patterns:
        paths = sorted(root.glob(str(pattern)))
        if not paths:
            raise NotFound(f"include names {pattern}, and there is no such file.")
        found |= dict.fromkeys(path for path in paths if path.name != FILE)
    return list(found)


def _target(targets: Mapping[str, Any], asked: str | None) -> tuple[str, Mapping[str, Any]]:
    defaults = [name for name, each in targets.items() if _mapping(each, name).get("default")]
    names = [asked] if asked else defaults or ([*targets] if len(targets) == 1 else [])
    if len(names) != 1:
        raise InvalidArgument(
            f"Which target? Give -t with one of {', '.join(targets) or 'none: there are no targets'}."
        )
    if names[0] not in targets:
        raise NotFound(f"There is no target '{names[0]}'; there are {', '.join(targets)}.")
    chosen = _mapping(targets[names[0]], names[0])
    known(chosen, _TARGET, f"Target '{names[0]}'")
    return names[0], chosen


def _is_development(target: str, mode: Any) -> bool:
    if mode not in (None, "development", "production"):
        raise InvalidArgument(f"Target '{target}' has mode {mode}; it is development or production.")
    return bool(mode == "development")


def _root_path(workspace: Mapping[str, Any]) -> str:
    path = str(workspace.get("root_path") or "").rstrip("/")
    if not re.match(r"/Volumes/[^/]+/[^/]+/[^/]+/.", path):
        raise InvalidArgument(
            "Give workspace.root_path, a directory of a volume for the bundle's files and state, such as "
            "/Volumes/main/ml/bundles/${bundle.name}/${bundle.target}."
        )
    return path


def _variables(merged: Mapping[str, Any], chosen: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    declared = _mapping(merged.get("variables"), "variables")
    own = _mapping(chosen.get("variables"), "variables")
    if unknown := sorted({*own, *given} - set(declared)):
        raise InvalidArgument(f"There is no variable '{unknown[0]}'; declare it under variables.")
    values = {}
    for name, each in declared.items():
        told = _mapping(each, f"Variable '{name}'")
        known(told, {"description", "default"}, f"Variable '{name}'")
        found = [given.get(name), os.environ.get(f"BUNDLE_VAR_{name}"), own.get(name), told.get("default")]
        values[name] = next((value for value in found if value is not None), None)
        if values[name] is None:
            raise InvalidArgument(f"Variable '{name}' has no value; give --var {name}=... or a default.")
    return values


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where} is not a mapping of names.")
    return value
