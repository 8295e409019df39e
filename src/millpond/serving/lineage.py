"""What endpoints tell lineage."""

from collections.abc import Sequence

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.lineage.domain import ColumnFlow
from millpond.serving.domain import Endpoint, ServedEntity
from millpond.serving.ports import Deployed
from millpond.tracking.lineage import ModelLineage


def deployed(lineage: ModelLineage) -> Deployed:
    """Tells lineage which models an endpoint serves, and which features it reads."""

    def told(
        connection: Connection,
        who: Principal,
        endpoint: Endpoint,
        entities: Sequence[ServedEntity],
        features: Sequence[ColumnFlow],
    ) -> None:
        models = sorted({(each.model.name, each.model.version) for each in entities if not each.model.is_spec})
        lineage.deployed(connection, who, (endpoint.id, endpoint.name), models, features)

    return told
