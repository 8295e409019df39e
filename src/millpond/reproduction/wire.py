"""The shape of what a client's plugin tells; whatever else it says is kept as it is."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millpond.kernel.errors import InvalidArgument

_Told = ConfigDict(extra="allow", strict=True)


class Git(BaseModel):
    """The repository's state."""

    model_config = _Told

    commit: str
    branch: str
    remote: str
    changed: list[str]


class Code(BaseModel):
    """What was run."""

    model_config = _Told

    kind: Literal["script", "module", "command", "notebook", "unknown"]
    entry: str
    argv: list[str]
    cwd: str
    root: str = Field(pattern="^/")
    git: Git | None
    skipped: dict[str, str]


class Package(BaseModel):
    """An installed distribution."""

    model_config = _Told

    name: str
    version: str
    origin: dict[str, Any] | None = None


class Input(BaseModel):
    """A file that was read."""

    model_config = _Told

    path: str
    size: int
    sha256: str | None


class Python(BaseModel):
    """The interpreter."""

    model_config = _Told

    version: str
    implementation: str


class Machine(BaseModel):
    """Where it ran."""

    model_config = _Told

    system: str
    release: str
    machine: str
    libc: str
    processor: str


class Start(BaseModel):
    """What is told when a run starts."""

    model_config = _Told

    format: Literal[1]
    code: Code
    python: Python
    platform: Machine
    threads: dict[str, int]
    variables: dict[str, str]
    packages: list[Package]
    inputs: list[Input]
    files: dict[str, str]
    seeds: dict[str, Any]
    random: dict[str, Any]
    cells: list[str] | None


class End(BaseModel):
    """What is told when the process ends."""

    model_config = _Told

    format: Literal[1]
    inputs: list[Input]
    files: dict[str, str]
    changed_meanwhile: list[str]


_SHAPES: dict[str, type[BaseModel]] = {"start": Start, "end": End}


def check_shape(told: Any, part: str) -> None:
    """Pass for what a plugin of ours tells. Raises InvalidArgument that names what is wrong."""
    try:
        _SHAPES[part].model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidArgument(
            f"This is not a capture as Millpond's plugin sends it: {'.'.join(map(str, first['loc']))}: {first['msg']}. "
            "Client and server may be of different releases."
        ) from error
