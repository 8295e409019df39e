"""Settings of Spark that are the server's: no session changes them, and no cluster gives them to its sessions."""

import re

# Settings that name code, places, credentials or other catalogs. What is not Spark's own is the user's to choose.
_REFUSED_SETTING = re.compile(
    r"^spark\.sql\.(catalog|warehouse|hive|extensions|defaultcatalog|globaltempdatabase|streaming\..*(class|location|listeners))"
    r"|^spark\.sql\.(sources\.(commitprotocolclass|outputcommitterclass)|cache\.serializer|queryexecutionlisteners|execution\.pyspark\.python)"
    r"|^spark\.(?!sql\.|databricks\.|millpond\.|app\.name)|^(fs|hadoop|hive|javax)\.|\.class(es)?$",
    re.IGNORECASE,
)


def is_servers(key: str) -> bool:
    """Whether a setting would reach beyond a session's own queries."""
    return _REFUSED_SETTING.search(key) is not None
