"""The HTTP of feature tables, which is ours alone."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from millpond.catalog.domain import ObjectName
from millpond.catalog.search import Wanted
from millpond.feature_tables.room import FeatureTableRoom
from millpond.feature_tables.wire import distribution_json, features_json, model_json, statistics_json, table_json
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.errors import InvalidArgument

_FEATURES = "/api/millpond/features"
_Me = Annotated[Principal, Depends(current_principal)]
_Version = Annotated[int | None, Query(ge=0)]


def router(room: FeatureTableRoom) -> APIRouter:
    """All routes of the room."""
    routes = APIRouter()
    _add_tables(routes, room)
    _add_statistics(routes, room)
    return routes


def _add_tables(routes: APIRouter, room: FeatureTableRoom) -> None:
    @routes.get(_FEATURES)
    def list_all(
        me: _Me,
        q: str = "",
        tag: str = "",
        owner: str = "",
        certified: str = "",
        unused: bool = False,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> dict[str, Any]:
        wanted = Wanted(text=q, tag=tag, owner=owner, certification={"true": "certified"}.get(certified, certified))
        page = room.service.list(me, wanted, unused=unused, max_results=max_results, page_token=page_token)
        written = room.reader.last_written(me, [each.table for each in page.items])
        shown: dict[str, Any] = {"feature_tables": [table_json(each, written) for each in page.items]}
        return shown | ({"next_page_token": page.next_page_token} if page.next_page_token else {})

    @routes.get(_FEATURES + "/{name}")
    def get(me: _Me, name: str) -> dict[str, Any]:
        found = room.service.get(me, ObjectName.of_full_name(name))
        return features_json(found, room.reader.last_written(me, [found.described.table]))

    @routes.get("/api/millpond/model-features")
    def of_model(me: _Me, name: str, version: str) -> dict[str, Any]:
        return {"feature_tables": [model_json(each) for each in room.service.of_model(me, name, version)]}


def _add_statistics(routes: APIRouter, room: FeatureTableRoom) -> None:
    @routes.get(_FEATURES + "/{name}/statistics")
    def statistics(me: _Me, name: str, version: _Version = None, columns: str = "") -> dict[str, Any]:
        wanted = [column.strip() for column in columns.split(",") if column.strip()]
        return statistics_json(room.statistics.summarise(me, ObjectName.of_full_name(name), wanted, version=version))

    @routes.get(_FEATURES + "/{name}/distribution")
    def distribution(me: _Me, name: str, column: str, version: str = "") -> dict[str, Any]:
        """`version` is one, or several with commas; the newest when it is left out."""
        table = ObjectName.of_full_name(name)
        return distribution_json(room.statistics.distribution(me, table, column, versions=_versions(version)))


def _versions(text: str) -> list[int | None]:
    given = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [part for part in given if not part.isdecimal() or len(part) > 18]:
        raise InvalidArgument(f"version is '{wrong[0][:40]}'; give one or several numbers with commas.")
    if len(given) > _MOST_VERSIONS:
        raise InvalidArgument(f"{len(given)} versions are compared; at most {_MOST_VERSIONS} at once.")
    return [int(part) for part in given] or [None]


_MOST_VERSIONS = 10
