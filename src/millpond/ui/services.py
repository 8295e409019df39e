"""What pages are given: the services of the rooms below, and the addresses that clients use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

from millpond.audit.service import AuditService
from millpond.billing.room import BillingRoom
from millpond.catalog.files import Files
from millpond.catalog.service import CatalogService
from millpond.compute.room import ComputeRoom
from millpond.discovery.service import DiscoveryService
from millpond.engine.reader import TableReader
from millpond.feature_tables.room import FeatureTableRoom
from millpond.identity.directory import DirectoryService
from millpond.identity.federation import Federation
from millpond.identity.grants import Find
from millpond.identity.service import IdentityService
from millpond.inference_tables.predictions import PredictionService
from millpond.jobs.room import JobsRoom
from millpond.kernel.settings import spark_host
from millpond.lineage.room import LineageRoom
from millpond.notifications.service import DestinationService
from millpond.online.service import OnlineService
from millpond.parity.service import ParityService
from millpond.pipelines.room import PipelinesRoom
from millpond.registry.room import RegistryRoom
from millpond.replay.service import ReplayService
from millpond.reproduction.room import ReproductionRoom
from millpond.secrets.service import SecretsService
from millpond.serving.canary.service import CanaryService
from millpond.serving.options import EndpointOptions
from millpond.serving.service import ServingService
from millpond.sql.room import SqlRoom
from millpond.tracking.lineage import ModelLineage
from millpond.tracking.model_files import VersionFiles
from millpond.tracking.service import ModelService
from millpond.ui.preferences import Preferences
from millpond.ui.tracking import Tracking
from millpond.waste.service import WasteService


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where clients find this server."""

    base_url: str
    """API and pages, without a trailing slash."""
    spark_url: str
    """`sc://host:port`."""
    spark_tls: bool = False

    @property
    def spark_remote(self) -> str:
        """What PySpark connects to; `<token>` is for the reader to fill in."""
        return f"{self.spark_url}/;{'use_ssl=true;' if self.spark_tls else ''}token=<token>"


def addresses_for(request: Request, services: "Services") -> Addresses:
    """The addresses for whoever sent this request: the public one, else the host by which they reached us."""
    base_url = (services.public_url or str(request.base_url)).rstrip("/")
    host = urlsplit(base_url).hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    spark_url = f"sc://{spark_host(host)}:{services.spark_port}"
    return Addresses(base_url=base_url, spark_url=spark_url, spark_tls=services.spark_tls)


@dataclass(frozen=True, kw_only=True)
class Services:
    """The rooms as pages see them."""

    identity: IdentityService
    directory: DirectoryService
    audit: AuditService
    secrets: SecretsService
    catalog: CatalogService
    finders: Mapping[str, Callable[[str], Find]]
    """For each type of object that has grants, how one of a name or id is found."""
    files: Files
    tables: TableReader
    tracking: Tracking
    discovery: DiscoveryService
    models: ModelService
    model_files: VersionFiles
    registry: RegistryRoom
    reproduction: ReproductionRoom
    serving: ServingService
    endpoint_options: EndpointOptions
    canaries: CanaryService
    predictions: PredictionService
    replays: ReplayService
    online: OnlineService
    parity: ParityService
    billing: BillingRoom
    waste: WasteService
    feature_tables: FeatureTableRoom
    jobs: JobsRoom
    pipelines: PipelinesRoom
    compute: ComputeRoom
    sql: SqlRoom
    destinations: DestinationService
    lineage: LineageRoom
    model_lineage: ModelLineage
    preferences: Preferences
    public_url: str | None
    """The address under which browsers and clients reach the server; None when it is the one that they used."""
    spark_port: int
    spark_tls: bool = False
    federation: Federation | None = None
    """Sign-in at an identity provider, where one is set."""
