"""The serving room, built: what `app.py` joins to the rest."""

from dataclasses import dataclass

from millpond.kernel.database import Database
from millpond.kernel.settings import Settings
from millpond.serving.capture import Captures
from millpond.serving.features import ServedFeatures
from millpond.serving.models import ModelCache
from millpond.serving.ports import Deployed, ModelSource, Served, nobody_listens
from millpond.serving.runtime import ServingRuntime
from millpond.serving.service import ServingService
from millpond.serving.specs import Specs
from millpond.serving.variables import Variables


@dataclass(frozen=True, kw_only=True)
class ServingRoom:
    """The service for routes and pages, and the runtime to enter while the server runs (`async with`)."""

    service: ServingService
    runtime: ServingRuntime


def open_serving(
    database: Database,
    settings: Settings,
    source: ModelSource,
    variables: Variables,
    features: ServedFeatures | None = None,
    deployed: Deployed = lambda *_told: None,
    served: Served = nobody_listens,
    captures: Captures | None = None,
) -> ServingRoom:
    """Serving on a database and a data directory, with models from `source`; `served` is told of what answers.

    Without `features`, models that need some are refused; without `captures`, inference tables are.
    """
    models = ModelCache(settings.data_dir / "serving" / "models", source)
    specs = Specs(models)
    runtime = ServingRuntime(
        database=database, models=models, specs=specs, variables=variables, settings=settings, served=served
    )
    service = ServingService(
        database=database,
        source=source,
        models=models,
        variables=variables,
        runtime=runtime,
        specs=specs,
        features=features,
        deployed=deployed,
        request_timeout_s=settings.serving.request_timeout_s,
        served=served,
        captures=captures,
    )
    return ServingRoom(service=service, runtime=runtime)
