"""The serving room, built: what `app.py` joins to the rest."""

from collections.abc import Callable
from dataclasses import dataclass

from millpond.billing.metering import Meter
from millpond.billing.quotas import QuotaService
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.environments import Environments
from millpond.kernel.settings import Settings
from millpond.notifications.mail import Mailer
from millpond.serving.by_uri import FindNode, ModelsByUri, version_node
from millpond.serving.canary.service import CanaryService
from millpond.serving.capture import Captures, NoCaptures
from millpond.serving.costs import EndpointCosts
from millpond.serving.features import ServedFeatures
from millpond.serving.following import Follower
from millpond.serving.models import ModelCache
from millpond.serving.options import EndpointOptions
from millpond.serving.ports import Deployed, ModelSource, Served, nobody_listens
from millpond.serving.predicting import Predictions
from millpond.serving.rehearsal import Rehearsals
from millpond.serving.resolving import Resolver
from millpond.serving.runtime import ServingRuntime
from millpond.serving.service import ServingService
from millpond.serving.specs import Specs
from millpond.serving.tracing import open_tracing
from millpond.serving.variables import Variables


@dataclass(frozen=True, kw_only=True)
class ServingRoom:
    """The services for routes, pages and other rooms, and the runtime to enter while the server runs (`async with`)."""

    service: ServingService
    options: EndpointOptions
    canaries: CanaryService
    rehearsals: Rehearsals
    runtime: ServingRuntime
    by_uri: ModelsByUri


def open_serving(
    database: Database,
    settings: Settings,
    source: ModelSource,
    variables: Variables,
    find_principal: Callable[[str], Principal],
    meter: Meter,
    quotas: QuotaService,
    features: ServedFeatures | None = None,
    deployed: Deployed = lambda *_told: None,
    served: Served = nobody_listens,
    mail: Mailer | None = None,
    captures: Captures | None = None,
    environments: Environments | None = None,
    find_node: FindNode = version_node,
) -> ServingRoom:
    """Serving on a database and a data directory, with models from `source`; `served` is told of what answers.

    `find_principal` gives the principal of a name, or raises NotFound. Without `features`, models that need some are
    refused; without `mail`, notifications are; without `captures`, inference tables are. Without `environments`,
    models have the server's packages, whatever they were logged with.
    """
    models = ModelCache(settings.data_dir / "serving" / "models", source)
    specs = Specs(models)
    resolver = Resolver(source, specs, features)
    follower = Follower(
        database=database,
        source=source,
        resolver=resolver,
        variables=variables,
        find_principal=find_principal,
        deployed=deployed,
    )
    tracing = open_tracing(settings.otlp_endpoint)
    runtime = ServingRuntime(
        database=database,
        models=models,
        specs=specs,
        variables=variables,
        settings=settings,
        served=served,
        follow=follower.look,
        find_principal=find_principal,
        environments=environments,
        tracing=tracing,
    )
    options = EndpointOptions(database, runtime, mail)
    costs = EndpointCosts(database, runtime, meter, quotas)
    predictions = Predictions(
        database=database,
        runtime=runtime,
        specs=specs,
        features=features,
        captures=captures or NoCaptures(),
        costs=costs,
        request_timeout_s=settings.serving.request_timeout_s,
        stream_timeout_s=settings.serving.stream_timeout_s,
        tracing=tracing,
    )
    service = ServingService(
        database=database,
        resolver=resolver,
        models=models,
        variables=variables,
        runtime=runtime,
        specs=specs,
        features=features,
        options=options,
        predictions=predictions,
        costs=costs,
        deployed=deployed,
        served=served,
        captures=captures,
    )
    by_uri = ModelsByUri(
        database, source, models, runtime, find_node, costs, request_timeout_s=settings.serving.request_timeout_s
    )
    return ServingRoom(
        service=service,
        options=options,
        canaries=CanaryService(database, runtime.notify),
        rehearsals=Rehearsals(database, runtime, resolver, predictions, variables),
        runtime=runtime,
        by_uri=by_uri,
    )
