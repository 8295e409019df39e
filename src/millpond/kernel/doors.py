"""How processes without a network of ours reach the server, and what tells the official clients so."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Doors:
    """Where the server's own processes find it: a Unix socket and the port that it stands for."""

    api_socket: Path
    api_port: int
    spark_socket: Path
    spark_port: int

    @property
    def ways_out(self) -> tuple[str, ...]:
        """Pairs of a socket and a port."""
        return (str(self.api_socket), str(self.api_port), str(self.spark_socket), str(self.spark_port))

    def variables(self, token: str) -> dict[str, str]:
        """What tells the official clients where to go."""
        url = f"http://127.0.0.1:{self.api_port}"
        return {
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_TOKEN": token,
            "DATABRICKS_HOST": url,
            "DATABRICKS_TOKEN": token,
            "SPARK_REMOTE": f"sc://localhost:{self.spark_port}/;token={token}",
        }
