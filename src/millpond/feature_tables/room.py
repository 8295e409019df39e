"""The room as `app.py` opens it."""

from dataclasses import dataclass

from millpond.catalog.service import CatalogService
from millpond.engine.reader import TableReader
from millpond.engine.sql_client import SqlClient
from millpond.feature_tables.service import FeatureTableService
from millpond.feature_tables.statistics import FeatureStatistics
from millpond.lineage.room import LineageRoom
from millpond.online.service import OnlineService
from millpond.tracking.lineage import ModelLineage


@dataclass(frozen=True, kw_only=True)
class FeatureTableRoom:
    """Its services."""

    service: FeatureTableService
    statistics: FeatureStatistics
    reader: TableReader


def open_feature_tables(
    catalog: CatalogService,
    lineage: LineageRoom,
    models: ModelLineage,
    online: OnlineService,
    reader: TableReader,
    sql: SqlClient,
) -> FeatureTableRoom:
    """The room over those below."""
    return FeatureTableRoom(
        service=FeatureTableService(catalog, lineage, models, online),
        statistics=FeatureStatistics(catalog, reader, sql),
        reader=reader,
    )
