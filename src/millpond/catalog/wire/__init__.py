"""JSON of the clients: `unity` for the Unity Catalog REST API, `types` for column types in it."""
