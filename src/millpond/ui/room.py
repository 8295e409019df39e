"""The pages' services, built: what `app.py` hands to `install`."""

from millpond.catalog.files import Files
from millpond.catalog.service import CatalogService
from millpond.identity.service import IdentityService
from millpond.kernel.database import Database
from millpond.kernel.settings import Settings
from millpond.serving.service import ServingService
from millpond.tracking.embed import MlflowApp
from millpond.tracking.model_files import VersionFiles
from millpond.ui.preferences import Preferences
from millpond.ui.services import Services
from millpond.ui.table_reader import CatalogTables, GatewayQuery, delta_options
from millpond.ui.tracking import Tracking


def open_services(
    database: Database,
    settings: Settings,
    *,
    identity: IdentityService,
    catalog: CatalogService,
    files: Files,
    mlflow: MlflowApp,
    model_files: VersionFiles,
    serving: ServingService,
) -> Services:
    """The rooms as pages see them."""
    query = GatewayQuery(spark_url=f"sc://127.0.0.1:{settings.spark_port}", mint=identity.mint)
    return Services(
        identity=identity,
        catalog=catalog,
        files=files,
        tables=CatalogTables(catalog, storage_options=delta_options(settings.s3), query=query),
        tracking=Tracking(lambda: mlflow.stores),
        model_files=model_files,
        serving=serving,
        preferences=Preferences(database),
        public_url=settings.public_url,
        spark_port=settings.spark_port,
    )
