"""Settings: a flag, then a `MILLPOND_*` variable, then `millpond.toml`, then the default. Unknown keys are errors.

Built once in each process and passed down as the values that a part needs.
"""

import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from millpond.kernel.errors import InvalidArgument

DEFAULT_DATA_DIR = Path("millpond-data")


class EngineSettings(BaseModel):
    """The query engine behind the Spark Connect gateway."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    remote: str | None = Field(default=None, description="A Spark Connect address (sc://host:port) instead of Sail.")
    idle_timeout_s: float = Field(
        default=900, gt=0, description="A user's engine process stops after this long unused."
    )
    memory_limit_bytes: int | None = Field(default=None, gt=0, description="Address space of one engine process.")


class ServingSettings(BaseModel):
    """The processes that serve models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_limit_bytes: int = Field(default=4 << 30, gt=0, description="Data segment of one model's process.")
    start_timeout_s: float = Field(default=120, gt=0, description="A model must load within this time.")
    request_timeout_s: float = Field(
        default=60, gt=0, description="A prediction must answer within this time; of a streamed answer each part."
    )
    stream_timeout_s: float = Field(default=600, gt=0, description="All of a streamed answer must come in this time.")
    environments: Literal["own", "server"] = Field(
        default="own",
        description="Where the server's packages are not those that a model was logged with, it has its own; or not.",
    )
    network: Literal["administrators", "managers", "always"] = Field(
        default="administrators",
        description="Who may let a served model use the network, with MILLPOND_NETWORK; or all do.",
    )
    queue_patience: float = Field(
        default=1.5,
        ge=0,
        description="Where requests keep coming faster than they are answered, one waits for so many times the model's "
        "own time, and others get 429; 0 lets each wait for its deadline.",
    )
    scale_down_after_s: float = Field(
        default=60, gt=0, description="A served model has fewer processes when the load has been lower for this time."
    )
    scale_to_zero_after_s: float = Field(
        default=1800, gt=0, description="One with scale_to_zero_enabled has none after this time without a request."
    )


class AuditSettings(BaseModel):
    """The record of who did what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    retention_days: int | None = Field(
        default=None, ge=1, description="Entries of the audit are removed after this many days; without it, never."
    )


class SecretsSettings(BaseModel):
    """The master key of secrets, where it shall not be a file in the data directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str | None = Field(default=None, repr=False, description="Master key of secrets: 64 hexadecimal digits.")
    key_command: str | None = Field(default=None, description="Command that prints it, instead.")
    previous_key: str | None = Field(
        default=None, repr=False, description="The master key before it, until `millpond secrets rotate-key` has run."
    )
    previous_key_command: str | None = Field(default=None, description="Command that prints that one.")

    @model_validator(mode="after")
    def _one_source_each(self) -> "SecretsSettings":
        if (self.key and self.key_command) or (self.previous_key and self.previous_key_command):
            raise ValueError("give a key or the command that prints it, not both")
        return self


class OidcSettings(BaseModel):
    """Single sign-on at an OpenID Connect provider."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str | None = Field(default=None, description="Address of the OpenID Connect provider; turns it on.")
    client_id: str | None = Field(default=None, description="Name under which Millpond is registered there.")
    client_secret: str | None = Field(default=None, repr=False, description="Its secret; none for a public client.")
    client_secret_file: Path | None = Field(default=None, description="File that holds it, instead.")
    scopes: str = Field(default="openid profile email", description="What is asked for, `openid` among it.")
    label: str = Field(default="Sign in with single sign-on", description="What the button says.")
    user_claim: str = Field(default="email", description="Claim of the ID token that is the user's name here.")
    create_users: bool = Field(default=False, description="Make a user for who is not known yet.")
    groups_claim: str | None = Field(default=None, description="Claim that lists somebody's groups there.")
    group_mapping: dict[str, str] = Field(
        default={}, description="Group there to group here; who comes is put in or out of these groups."
    )
    exchange_audiences: tuple[str, ...] = Field(
        default=(), description="Audiences of tokens that programs may exchange for access tokens; none by default."
    )

    @model_validator(mode="after")
    def _complete(self) -> "OidcSettings":
        if self.issuer and not self.client_id:
            raise ValueError("oidc.issuer needs oidc.client_id")
        if self.client_secret and self.client_secret_file:
            raise ValueError("give client_secret or client_secret_file, not both")
        if "openid" not in self.scopes.split():
            raise ValueError("oidc.scopes must have openid")
        return self

    def secret(self) -> str | None:
        """The client's secret, from wherever it is."""
        return self.client_secret_file.read_text().strip() if self.client_secret_file else self.client_secret


class SqlSettings(BaseModel):
    """Statements sent over HTTP, and what is kept of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    results_limit_bytes: int = Field(default=10 << 30, gt=0, description="Disk for the results of all statements.")
    result_ttl_s: float = Field(default=3600, gt=0, description="A result is kept for this long.")
    history_days: int = Field(default=30, gt=0, description="Statements stay in the query history for this long.")


class LineageSettings(BaseModel):
    """Where lineage is sent, as OpenLineage events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    openlineage_file: Path | None = Field(default=None, description="File to which each event is added as a line.")
    openlineage_url: str | None = Field(default=None, description="Endpoint to which each event is posted.")
    openlineage_api_key: str | None = Field(default=None, repr=False, description="Bearer token for that endpoint.")
    openlineage_namespace: str = Field(default="millpond", description="Namespace of the tables and jobs in events.")


class RegistrySettings(BaseModel):
    """Gates before models move, and webhooks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate_wait_s: float = Field(
        default=45, ge=0, description="Whoever moves a version waits this long for its gates' slow checks."
    )
    trial_timeout_s: float = Field(default=300, gt=0, description="A model under trial by a gate has this long.")
    trial_memory_bytes: int = Field(default=4 << 30, gt=0, description="Data segment of a model under trial.")
    webhook_networks: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Networks besides the public ones to which webhooks may be sent, such as 10.0.0.0/8."
    )


class SmtpSettings(BaseModel):
    """The mail server through which events of models are sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str | None = Field(default=None, description="Mail server (SMTP); without it no e-mail is sent.")
    port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="How the connection is encrypted: starttls, tls (from the first byte) or none."
    )
    user: str | None = Field(default=None, description="Account at the mail server.")
    password: str | None = Field(
        default=None, repr=False, description="Its password, best as a reference: {{secrets/SCOPE/KEY}}."
    )
    sender: str = Field(default="millpond@localhost", description="Address that e-mail comes from.")
    recipient_domains: tuple[str, ...] = Field(
        default=(), description="Domains besides the users of this server to whom e-mail may be sent."
    )
    timeout_s: float = Field(default=20, gt=0, description="The mail server must answer within this time.")

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> "SmtpSettings":
        if self.password and self.security == "none":
            raise ValueError("smtp.password is not sent over a connection that is not encrypted")
        return self


class ReproductionSettings(BaseModel):
    """Runs that are made again beside the server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_s: float = Field(default=3600, gt=0, description="The code of a run has this long.")
    memory_limit_bytes: int = Field(default=8 << 30, gt=0, description="Data segment of the process that runs it.")


class EnvironmentSettings(BaseModel):
    """The Python environments that are built from the requirements of models and projects."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index_url: str = Field(
        default="https://pypi.org/simple", repr=False, description="Package index that they are installed from."
    )
    extra_index_urls: tuple[str, ...] = Field(
        default=(),
        repr=False,
        description="Indexes that are asked before it; what one of them has is taken from there, such as "
        "PyTorch without CUDA from https://download.pytorch.org/whl/cpu.",
    )
    limit_bytes: int = Field(
        default=20 << 30, gt=0, description="Disk for them; those that were unused for longest go first."
    )
    timeout_s: float = Field(default=900, gt=0, description="One must be built within this time.")


class OnlineStoreSettings(BaseModel):
    """Where an online store is that is not embedded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(repr=False, description="redis://host:6379/0, rediss://... or postgresql://user@host/name.")
    password_file: Path | None = Field(default=None, description="File that holds the password, if not in the URL.")

    @model_validator(mode="after")
    def _known(self) -> "OnlineStoreSettings":
        if self.kind not in {"redis", "rediss", "postgresql"}:
            raise ValueError("the url of an online store begins with redis://, rediss:// or postgresql://")
        return self

    @property
    def kind(self) -> str:
        """The URL's scheme."""
        return self.url.partition("://")[0]

    @property
    def full_url(self) -> str:
        """The URL with its password."""
        if self.password_file is None:
            return self.url
        password = quote(self.password_file.read_text().strip(), safe="")
        parsed = urlsplit(self.url)
        user, _, host = parsed.netloc.rpartition("@")
        return parsed._replace(netloc=f"{user.partition(':')[0]}:{password}@{host}").geturl()


class OnlineSettings(BaseModel):
    """Online stores besides the embedded ones, and what publishes into them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stores: dict[str, OnlineStoreSettings] = Field(
        default={}, description="By name, each with a `url` and perhaps a `password_file`; all others are embedded."
    )
    publisher_memory_bytes: int = Field(
        default=8 << 30, gt=0, description="Data segment of the process that publishes tables."
    )


class JobsSettings(BaseModel):
    """The processes that run the tasks of jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks_at_once: int = Field(
        default=8,
        ge=0,
        le=1000,
        description="Tasks that have a process on this server at the same time; with 0 only workers run what they can.",
    )
    worker_lease_s: float = Field(
        default=30, ge=10, description="A worker that is not heard of for so long has lost its tasks."
    )
    memory_limit_bytes: int = Field(default=8 << 30, gt=0, description="Data segment of one task's process.")
    file_limit_bytes: int = Field(default=10 << 30, gt=0, description="Largest file that a task may write.")
    timeout_s: float = Field(default=172800, gt=0, description="No task takes longer than this.")
    keep_runs_days: float = Field(
        default=60, gt=0, description="Runs that ended so long ago are removed, with what they printed."
    )
    trigger_poll_s: float = Field(
        default=10, ge=0.1, description="Files and tables that a job's trigger watches are looked at this often."
    )
    git_sources: tuple[str, ...] = Field(
        default=("https://github.com/", "https://gitlab.com/", "https://bitbucket.org/"),
        description="Beginnings of the addresses of git repositories that tasks may run code from, `file:///...` too.",
    )


class ComputeSettings(BaseModel):
    """What clusters may take of this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cores_factor: float = Field(
        default=2.0, gt=0, le=16, description="All clusters together get so many times the cores that there are."
    )
    memory_share: float = Field(
        default=0.8, gt=0, le=1, description="All clusters together get this share of the memory."
    )


class BillingSettings(BaseModel):
    """How usage is metered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str = Field(default="USD", pattern="^[A-Z]{3}$", description="In which prices and budgets are.")
    interval_s: float = Field(
        default=15, gt=0, le=600, description="Processes are looked at this often; what a kill loses is no more."
    )
    keep_days: int = Field(default=730, ge=32, description="Usage records older than this go.")


class InferenceTableSettings(BaseModel):
    """How requests to endpoints get into their inference tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit_interval_s: float = Field(
        default=4, gt=0, le=8, description="Rows are committed this often; each commit makes a file."
    )
    limit_bytes: int = Field(
        default=2 << 30, gt=0, description="Disk for what waits to be committed, of each inference table."
    )
    when_full: Literal["refuse", "drop"] = Field(
        default="refuse", description="Beyond it: refuse requests (507), or answer them and drop their rows."
    )
    durable: bool = Field(
        default=False, description="Answers wait until they are on the disk, so that a power cut loses none."
    )
    compact_every: int = Field(
        default=100, ge=2, description="After so many commits the small files of a table are put together."
    )


class S3Settings(BaseModel):
    """Access to an object store for `s3://` roots."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: str | None = Field(default=None, repr=False)
    allow_http: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """The same under the names that Sail, delta-rs and the AWS SDKs know."""
        values = {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": self.region,
            "AWS_ALLOW_HTTP": "true" if self.allow_http else None,
        }
        return {name: value for name, value in values.items() if value is not None}


class Settings(BaseSettings):
    """Everything that a user may choose about one Millpond."""

    model_config = SettingsConfigDict(
        env_prefix="MILLPOND_", env_nested_delimiter="__", frozen=True, extra="forbid", toml_file="millpond.toml"
    )

    data_dir: Path = Field(default=DEFAULT_DATA_DIR, description="All state lives below this directory.")
    host: str = Field(default="127.0.0.1", description="Address that the API, the UI and Spark Connect listen on.")
    port: int = Field(default=8484, ge=0, le=65535, description="Port of the API and the UI.")
    spark_port: int = Field(default=15002, ge=0, le=65535, description="Port of Spark Connect.")
    public_url: str | None = Field(default=None, description="Address under which browsers and clients reach the API.")
    ssl_certfile: Path | None = Field(default=None, description="Certificate (PEM, with its chain): TLS on both ports.")
    ssl_keyfile: Path | None = Field(default=None, description="The certificate's private key (PEM).")
    database_url: str | None = Field(default=None, repr=False, description="postgresql://...; default SQLite.")
    storage_root: str | None = Field(default=None, description="Root of managed data: a path or s3://bucket/prefix.")
    otlp_endpoint: str | None = Field(
        default=None, description="OpenTelemetry collector (OTLP over HTTP) that gets spans of predictions."
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")
    engine: EngineSettings = EngineSettings()
    serving: ServingSettings = ServingSettings()
    audit: AuditSettings = AuditSettings()
    sql: SqlSettings = SqlSettings()
    lineage: LineageSettings = LineageSettings()
    s3: S3Settings = S3Settings()
    secrets: SecretsSettings = SecretsSettings()
    oidc: OidcSettings = OidcSettings()
    registry: RegistrySettings = RegistrySettings()
    environments: EnvironmentSettings = EnvironmentSettings()
    smtp: SmtpSettings = SmtpSettings()
    reproduction: ReproductionSettings = ReproductionSettings()
    online: OnlineSettings = OnlineSettings()
    jobs: JobsSettings = JobsSettings()
    compute: ComputeSettings = ComputeSettings()
    billing: BillingSettings = BillingSettings()
    inference_tables: InferenceTableSettings = InferenceTableSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def effective_database_url(self) -> str:
        """The database URL, or that of the SQLite file in the data directory."""
        return self.database_url or f"sqlite:///{self.data_dir / 'millpond.db'}"

    @property
    def effective_storage_root(self) -> str:
        """Where managed tables and volumes live, as a URL without a trailing slash."""
        if self.storage_root is None:
            return (self.data_dir / "tables").as_uri()
        return (
            self.storage_root.rstrip("/") if "://" in self.storage_root else Path(self.storage_root).resolve().as_uri()
        )

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """Certificate and private key, where both ports speak TLS."""
        return (self.ssl_certfile, self.ssl_keyfile) if self.ssl_certfile and self.ssl_keyfile else None

    @property
    def base_url(self) -> str:
        """The address that clients use, without a trailing slash."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return f"{'https' if self.certificate else 'http'}://{self.local_host}:{self.port}"

    @property
    def local_host(self) -> str:
        """The address at which a process on this machine reaches the server."""
        return "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared, not bound

    @model_validator(mode="after")
    def _certificate_with_key(self) -> "Settings":
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certfile and ssl_keyfile belong together")
        return self


def spark_host(host: str) -> str:
    """How PySpark should spell a host: it sends a token over a plaintext channel to the name "localhost" only."""
    return "localhost" if host == "127.0.0.1" else host


def load_settings(**flags: Any) -> Settings:
    """Settings from the flags that were given (None means not given) and the sources below them.

    Raises InvalidArgument that names each wrong key.
    """
    _reject_unknown_variables()
    try:
        settings = Settings(**{key: value for key, value in flags.items() if value is not None})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise InvalidArgument("Settings are wrong: " + "; ".join(lines)) from error
    return settings.model_copy(update={"data_dir": settings.data_dir.expanduser().resolve()})


def _reject_unknown_variables() -> None:
    known = {f"MILLPOND_{name.upper()}" for name in Settings.model_fields} | RESERVED_VARIABLES
    for variable in os.environ:
        if variable.startswith("MILLPOND_") and variable.split("__")[0] not in known:
            raise InvalidArgument(f"Unknown environment variable {variable}; `millpond doctor` lists the known ones.")


RESERVED_VARIABLES = frozenset(
    {
        "MILLPOND_TREE", "MILLPOND_TEST_DATABASE_URL", "MILLPOND_SECRET_KEY", "MILLPOND_CAPTURE",
        "MILLPOND_REPRODUCES", "MILLPOND_RANDOM", "MILLPOND_TOKEN",
    }
)  # fmt: skip
"""Variables that are ours but no settings: the mark of a process tree, the tests' database, the signing key, what the
plugin of MLflow's client reads, and a worker's token."""
