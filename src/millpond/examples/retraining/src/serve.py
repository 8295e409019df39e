"""serve.py MODEL: an endpoint that answers with whichever version is the champion; made once, it follows by itself."""

import sys

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput

[model_name] = sys.argv[1:]
endpoint = model_name.replace(".", "-")
endpoints = WorkspaceClient().serving_endpoints
try:
    print(
        f"{endpoint} serves {endpoints.get(endpoint).config.served_entities[0].entity_version} until it has followed."
    )
except NotFound:
    champion = ServedEntityInput(
        entity_name=model_name, entity_version="@champion", workload_size="Small", scale_to_zero_enabled=True
    )
    endpoints.create(endpoint, config=EndpointCoreConfigInput(name=endpoint, served_entities=[champion]))
    print(f"Made the endpoint {endpoint}.")
