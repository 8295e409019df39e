"""`millpond init`: a project to begin with."""

import re
from pathlib import Path

import click

from millpond.kernel.errors import AlreadyExists, InvalidArgument

TEMPLATE = Path(__file__).parents[1] / "examples" / "retraining"
SAMPLE = Path(__file__).parents[1] / "examples" / "churn" / "telco_churn.parquet"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_PLACEHOLDER = "PROJECT_NAME"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", help="What the project is called, which its schemas and jobs begin with; else the directory's.")
def init(directory: Path, name: str | None) -> None:
    """Make a project in DIRECTORY: a churn model that is trained again each week and whenever files come, behind a
    gate, served and scored, with targets, tests and CI."""
    import polars  # here, so that other commands start without it

    name = name or directory.resolve().name.lower().replace("-", "_")
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"'{name[:60]}' is no name of a schema; give --name with small letters, digits and _.")
    if directory.exists() and any(directory.iterdir()):
        raise AlreadyExists(f"{directory} is not empty; name a new directory.")
    for place in sorted(TEMPLATE.rglob("*")):
        path = place.relative_to(TEMPLATE)
        if place.is_dir() or any(part.startswith((".", "__pycache__")) for part in path.parts):
            continue
        target = directory / _shown(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(place.read_text().replace(_PLACEHOLDER, name))
    (directory / "sample").mkdir()
    customers = polars.read_parquet(SAMPLE).drop("_split").with_row_index("customer_id", offset=1)
    customers.cast({"customer_id": polars.Int64}).write_parquet(directory / "sample" / "customers.parquet")
    click.echo(f"Made {directory}. Its README.md says how to go on; the first step:")
    click.echo(f"  cd {directory} && millpond bundle deploy")


def _shown(path: Path) -> Path:
    """Hidden files are kept with `dot-` before their names, so that packaging and this repository's tools see them."""
    return Path(*(re.sub(r"^dot-", ".", part) for part in path.parts))
