"""Privileges: their names, what each may be granted on, what each implies, and which of them an act needs.

Everything here is data and pure. Sources: Unity Catalog's privileges by securable object, and the permission levels of
the Databricks workspace (`/api/2.0/permissions`).
"""

from collections.abc import Mapping
from enum import Enum, StrEnum

from millpond.kernel.errors import InvalidArgument


class Privilege(StrEnum):
    """What can be granted; the values are those of the Databricks API."""

    ALL_PRIVILEGES = "ALL_PRIVILEGES"
    """Every privilege that the securable and what is in it can have, but MANAGE; whatever is added later too."""
    APPLY_TAG = "APPLY_TAG"
    ASSIGN = "ASSIGN"
    """Set a governed tag, on what one may tag."""
    BROWSE = "BROWSE"
    """See that all in a catalog exists, and its descriptions, without USE CATALOG or USE SCHEMA."""
    CREATE_CATALOG = "CREATE_CATALOG"
    CREATE_EXTERNAL_METADATA = "CREATE_EXTERNAL_METADATA"
    """Describe what lies outside, for lineage."""
    CREATE_FUNCTION = "CREATE_FUNCTION"
    CREATE_MODEL = "CREATE_MODEL"
    CREATE_MODEL_VERSION = "CREATE_MODEL_VERSION"
    CREATE_SCHEMA = "CREATE_SCHEMA"
    CREATE_TABLE = "CREATE_TABLE"
    """Also views."""
    CREATE_VOLUME = "CREATE_VOLUME"
    EXECUTE = "EXECUTE"
    """Call a function, load a model."""
    MANAGE = "MANAGE"
    """Grant, revoke, change, drop, give away: all that the owner may do but read and write."""
    MODIFY = "MODIFY"
    READ_VOLUME = "READ_VOLUME"
    SELECT = "SELECT"
    USE_CATALOG = "USE_CATALOG"
    USE_SCHEMA = "USE_SCHEMA"
    WRITE_VOLUME = "WRITE_VOLUME"

    CAN_VIEW = "CAN_VIEW"
    CAN_READ = "CAN_READ"
    CAN_QUERY = "CAN_QUERY"
    CAN_USE = "CAN_USE"
    CAN_RUN = "CAN_RUN"
    CAN_ATTACH_TO = "CAN_ATTACH_TO"
    CAN_RESTART = "CAN_RESTART"
    CAN_MONITOR = "CAN_MONITOR"
    CAN_MANAGE_RUN = "CAN_MANAGE_RUN"
    CAN_EDIT = "CAN_EDIT"
    CAN_MANAGE_STAGING_VERSIONS = "CAN_MANAGE_STAGING_VERSIONS"
    CAN_MANAGE_PRODUCTION_VERSIONS = "CAN_MANAGE_PRODUCTION_VERSIONS"
    CAN_MANAGE = "CAN_MANAGE"
    IS_OWNER = "IS_OWNER"
    """Not granted, but had by the owner; to give it is to give the object away."""

    @property
    def words(self) -> str:
        """As SQL writes it: `USE CATALOG`."""
        return self.value if self.value.startswith(("CAN_", "IS_")) else self.value.replace("_", " ")


class Act(Enum):
    """What somebody wants to do to an object."""

    SEE = "see"
    """Know that it exists and read its description."""
    READ = "read"
    """Read its contents: rows, files, metrics, a model's artifacts."""
    WRITE = "write"
    """Change its contents."""
    CREATE_IN = "create in"
    """Make an object inside it, where no act below says which."""
    CREATE_CATALOG = "create a catalog in"
    CREATE_EXTERNAL_METADATA = "create external metadata in"
    CREATE_SCHEMA = "create a schema in"
    CREATE_TABLE = "create a table in"
    CREATE_VOLUME = "create a volume in"
    CREATE_FUNCTION = "create a function in"
    CREATE_MODEL = "create a model in"
    CREATE_VERSION = "create a version of"
    STAGE = "move between stages a version of"
    STAGE_PRODUCTION = "move into or out of production a version of"
    USE = "use"
    """Call it: query an endpoint, run a function, run statements in a warehouse."""
    RESTART = "start and end"
    MONITOR = "see what others run in"
    TAG = "tag"
    ALTER = "alter"
    """Change its columns, properties and comments."""
    MANAGE = "manage"
    """Change its definition, owner or rights, or delete it."""


CONTENT_ACTS = frozenset(act for act in Act if act in {Act.WRITE, Act.ALTER} or act.name.startswith("CREATE_"))
"""The acts that change what a securable holds, and in which form."""

P = Privilege
Held = frozenset[Privilege]

CONTAINERS: Mapping[str, tuple[str, ...]] = {
    "catalog": (),
    "schema": ("catalog",),
    **dict.fromkeys(("table", "volume", "function", "model"), ("schema", "catalog")),
}
"""The kinds whose privileges are inherited, with the kinds of their containers outward."""

_OWN: Mapping[str, Held] = {
    "table": frozenset({P.SELECT, P.MODIFY, P.APPLY_TAG, P.MANAGE}),
    "volume": frozenset({P.READ_VOLUME, P.WRITE_VOLUME, P.APPLY_TAG, P.MANAGE}),
    "function": frozenset({P.EXECUTE, P.MANAGE}),
    "model": frozenset({P.EXECUTE, P.CREATE_MODEL_VERSION, P.APPLY_TAG, P.MANAGE}),
}
_SCHEMA = frozenset({P.USE_SCHEMA, P.CREATE_TABLE, P.CREATE_VOLUME, P.CREATE_FUNCTION, P.CREATE_MODEL})
_SCHEMA = _SCHEMA.union(*_OWN.values())
_IN_WORKSPACE = ("directory", "notebook", "file")
_LEVELS: Mapping[str, tuple[Privilege, ...]] = {
    "experiment": (P.CAN_READ, P.CAN_EDIT, P.CAN_MANAGE),
    "registered model": (P.CAN_READ, P.CAN_EDIT, P.CAN_MANAGE_STAGING_VERSIONS, P.CAN_MANAGE_PRODUCTION_VERSIONS,
                         P.CAN_MANAGE),
    "endpoint": (P.CAN_VIEW, P.CAN_QUERY, P.CAN_MANAGE),
    "warehouse": (P.CAN_VIEW, P.CAN_USE, P.CAN_MONITOR, P.CAN_MANAGE),
    "query": (P.CAN_VIEW, P.CAN_RUN, P.CAN_EDIT, P.CAN_MANAGE),
    "alert": (P.CAN_READ, P.CAN_RUN, P.CAN_EDIT, P.CAN_MANAGE),
    "job": (P.CAN_VIEW, P.CAN_MANAGE_RUN, P.CAN_MANAGE),
    "pipeline": (P.CAN_VIEW, P.CAN_RUN, P.CAN_MANAGE),
    "cluster": (P.CAN_ATTACH_TO, P.CAN_RESTART, P.CAN_MANAGE),
    "cluster policy": (P.CAN_USE,),
    "instance pool": (P.CAN_ATTACH_TO, P.CAN_MANAGE),
    **dict.fromkeys(_IN_WORKSPACE, (P.CAN_READ, P.CAN_RUN, P.CAN_EDIT, P.CAN_MANAGE)),
}  # fmt: skip
"""Permission levels of workspace objects, the weakest first: each holds those before it."""

GRANTABLE: Mapping[str, Held] = {
    "metastore": frozenset({P.CREATE_CATALOG, P.CREATE_EXTERNAL_METADATA}),
    "catalog": _SCHEMA | {P.USE_CATALOG, P.CREATE_SCHEMA, P.BROWSE, P.ALL_PRIVILEGES},
    "schema": _SCHEMA | {P.ALL_PRIVILEGES},
    **{kind: own | {P.ALL_PRIVILEGES} for kind, own in _OWN.items()},
    **{kind: frozenset(levels) for kind, levels in _LEVELS.items()},
    "tag policy": frozenset({P.ASSIGN, P.MANAGE}),
}
"""What may be granted on each kind of securable."""

_Ways = tuple[Held, ...]
_BROWSE: Held = frozenset({P.BROWSE})


def levels(kind: str) -> tuple[Privilege, ...]:
    """The permission levels of a kind of workspace object, the weakest first; none for the catalog's kinds."""
    return _LEVELS.get(kind, ())


def implied(kind: str, privilege: Privilege) -> Held:
    """All that somebody has who was granted a privilege on a securable of a kind."""
    if privilege is P.ALL_PRIVILEGES:
        return GRANTABLE[kind] - {P.MANAGE}
    ranked = _LEVELS.get(kind)
    return frozenset(ranked[: ranked.index(privilege) + 1]) if ranked else frozenset({privilege})


def check_grantable(kind: str, privilege: Privilege) -> None:
    """Raises InvalidArgument for a privilege that securables of a kind cannot have."""
    if privilege not in GRANTABLE[kind]:
        allowed = ", ".join(sorted(item.words for item in GRANTABLE[kind]))
        raise InvalidArgument(f"Privilege {privilege.words} is not applicable to a {kind}; it takes {allowed}.")


def privilege_named(text: str) -> Privilege:
    """The privilege with a name, in any case, with blanks or underscores; older names too.

    Raises InvalidArgument.
    """
    name = "_".join(text.upper().replace("_", " ").split())
    try:
        return Privilege(_OLDER.get(name, name))
    except ValueError as error:
        raise InvalidArgument(f"There is no privilege '{text[:60]}'.") from error


_OLDER = {"ALL": "ALL_PRIVILEGES", "USE_DATABASE": "USE_SCHEMA"}

_EXPERIMENT: Mapping[Act, _Ways] = {
    Act.SEE: (frozenset({P.CAN_READ}),),
    Act.READ: (frozenset({P.CAN_READ}),),
    Act.WRITE: (frozenset({P.CAN_EDIT}),),
    Act.CREATE_IN: (frozenset({P.CAN_EDIT}),),
    Act.MANAGE: (frozenset({P.CAN_MANAGE}),),
}
"""What is in an experiment follows it."""
_WORKSPACE: Mapping[Act, _Ways] = {
    Act.SEE: (frozenset({P.CAN_READ}),),
    Act.READ: (frozenset({P.CAN_READ}),),
    Act.USE: (frozenset({P.CAN_RUN}),),
    Act.WRITE: (frozenset({P.CAN_EDIT}),),
    Act.CREATE_IN: (frozenset({P.CAN_EDIT}),),
    Act.MANAGE: (frozenset({P.CAN_MANAGE}),),
}
"""What is held on a directory counts for all below."""
_RULES: Mapping[str, Mapping[Act, _Ways]] = {
    "metastore": {
        Act.CREATE_CATALOG: (frozenset({P.CREATE_CATALOG}),),
        Act.CREATE_EXTERNAL_METADATA: (frozenset({P.CREATE_EXTERNAL_METADATA}),),
    },
    "tag policy": {
        Act.TAG: (frozenset({P.ASSIGN}), frozenset({P.MANAGE})),
        Act.MANAGE: (frozenset({P.MANAGE}),),
    },
    "catalog": {
        Act.SEE: (frozenset({P.USE_CATALOG}), frozenset({P.MANAGE}), _BROWSE),
        Act.CREATE_SCHEMA: (frozenset({P.USE_CATALOG, P.CREATE_SCHEMA}),),
    },
    "schema": {
        Act.SEE: (frozenset({P.USE_SCHEMA}), frozenset({P.MANAGE}), _BROWSE),
        Act.CREATE_TABLE: (frozenset({P.USE_SCHEMA, P.CREATE_TABLE}),),
        Act.CREATE_VOLUME: (frozenset({P.USE_SCHEMA, P.CREATE_VOLUME}),),
        Act.CREATE_FUNCTION: (frozenset({P.USE_SCHEMA, P.CREATE_FUNCTION}),),
        Act.CREATE_MODEL: (frozenset({P.USE_SCHEMA, P.CREATE_MODEL}),),
    },
    "table": {
        Act.READ: (frozenset({P.SELECT}),),
        Act.WRITE: (frozenset({P.MODIFY, P.SELECT}),),
        Act.ALTER: (frozenset({P.MODIFY, P.SELECT}), frozenset({P.MANAGE})),
    },
    "volume": {Act.READ: (frozenset({P.READ_VOLUME}),), Act.WRITE: (frozenset({P.WRITE_VOLUME}),)},
    "function": {Act.READ: (frozenset({P.EXECUTE}),), Act.USE: (frozenset({P.EXECUTE}),)},
    "model": {
        Act.READ: (frozenset({P.EXECUTE}),),
        Act.USE: (frozenset({P.EXECUTE}),),
        Act.WRITE: (frozenset({P.MANAGE}),),
        Act.CREATE_VERSION: (frozenset({P.CREATE_MODEL_VERSION}), frozenset({P.MANAGE})),
    },
    **dict.fromkeys(("experiment", "run", "logged model", "trace"), _EXPERIMENT),
    **dict.fromkeys(_IN_WORKSPACE, _WORKSPACE),
    "alert": {act: ways for act, ways in _WORKSPACE.items() if act is not Act.CREATE_IN},
    "registered model": {
        Act.SEE: (frozenset({P.CAN_READ}),),
        Act.READ: (frozenset({P.CAN_READ}),),
        Act.WRITE: (frozenset({P.CAN_EDIT}),),
        Act.TAG: (frozenset({P.CAN_EDIT}),),
        Act.CREATE_VERSION: (frozenset({P.CAN_EDIT}),),
        Act.STAGE: (frozenset({P.CAN_MANAGE_STAGING_VERSIONS}),),
        Act.STAGE_PRODUCTION: (frozenset({P.CAN_MANAGE_PRODUCTION_VERSIONS}),),
        Act.MANAGE: (frozenset({P.CAN_MANAGE}),),
    },
    "endpoint": {
        Act.SEE: (frozenset({P.CAN_VIEW}),),
        Act.READ: (frozenset({P.CAN_VIEW}),),
        Act.USE: (frozenset({P.CAN_QUERY}),),
        Act.MANAGE: (frozenset({P.CAN_MANAGE}),),
    },
    "warehouse": {
        Act.SEE: (frozenset({P.CAN_VIEW}),),
        Act.READ: (frozenset({P.CAN_VIEW}),),
        Act.USE: (frozenset({P.CAN_USE}),),
        Act.MONITOR: (frozenset({P.CAN_MONITOR}),),
        Act.MANAGE: (frozenset({P.CAN_MANAGE}),),
    },
    "job": {
        Act.SEE: (frozenset({P.CAN_VIEW}),),
        Act.READ: (frozenset({P.CAN_VIEW}),),
        Act.USE: (frozenset({P.CAN_MANAGE_RUN}),),
        Act.MANAGE: (frozenset({P.CAN_MANAGE}),),
    },
    "pipeline": {
        Act.SEE: (frozenset({P.CAN_VIEW}),),
        Act.READ: (frozenset({P.CAN_VIEW}),),
        Act.USE: (frozenset({P.CAN_RUN}),),
        Act.MANAGE: (frozenset({P.CAN_MANAGE}),),
    },
    "cluster": {
        Act.SEE: (frozenset({P.CAN_ATTACH_TO}),),
        Act.READ: (frozenset({P.CAN_ATTACH_TO}),),
        Act.USE: (frozenset({P.CAN_ATTACH_TO}),),
        Act.RESTART: (frozenset({P.CAN_RESTART}),),
        Act.MANAGE: (frozenset({P.CAN_MANAGE}),),
    },
    "cluster policy": {
        Act.SEE: (frozenset({P.CAN_USE}),),
        Act.READ: (frozenset({P.CAN_USE}),),
        Act.USE: (frozenset({P.CAN_USE}),),
    },
    "instance pool": {
        Act.SEE: (frozenset({P.CAN_ATTACH_TO}),),
        Act.READ: (frozenset({P.CAN_ATTACH_TO}),),
        Act.USE: (frozenset({P.CAN_ATTACH_TO}),),
        Act.MANAGE: (frozenset({P.CAN_MANAGE}),),
    },
    "query": {
        Act.SEE: (frozenset({P.CAN_VIEW}),),
        Act.READ: (frozenset({P.CAN_VIEW}),),
        Act.USE: (frozenset({P.CAN_RUN}),),
        Act.WRITE: (frozenset({P.CAN_EDIT}),),
        Act.MANAGE: (frozenset({P.CAN_MANAGE}),),
    },
}
"""For each kind and act, what does: any of the sets, each held whole. What the rules below add is left out."""


def ways(kind: str, act: Act) -> tuple[Held, ...]:
    """Which privileges let somebody do this to a securable of a kind: any of these sets, each held whole.

    A privilege counts wherever it is held, on the securable or a container. What is in a schema needs USE SCHEMA and
    USE CATALOG besides, a schema USE CATALOG; only BROWSE needs neither.
    """
    return _WAYS.get((kind, act), ())


def ways_to_exercise(kind: str, privilege: Privilege) -> tuple[Held, ...]:
    """As `ways`, for a privilege itself: which sets make it good for something. MODIFY counts together with SELECT."""
    modifies = privilege is P.MODIFY and kind == "table"
    return _with_way_in(kind, frozenset({privilege, P.SELECT}) if modifies else frozenset({privilege}))


def _with_way_in(kind: str, held: Held) -> _Ways:
    if held == _BROWSE:
        return (held,)
    way_in = {"schema": {P.USE_CATALOG}}.get(kind, {P.USE_SCHEMA, P.USE_CATALOG} if kind in _OWN else set())
    return (held | way_in,)


def _all_ways() -> dict[tuple[str, Act], _Ways]:
    found: dict[tuple[str, Act], _Ways] = {}
    for kind, rules in _RULES.items():
        plain = dict(rules)
        if kind in CONTAINERS:
            plain[Act.MANAGE] = (frozenset({P.MANAGE}),)
            plain[Act.TAG] = (frozenset({P.APPLY_TAG}), frozenset({P.MANAGE}))
        if kind in _OWN:
            plain[Act.SEE] = (*(frozenset({privilege}) for privilege in sorted(_OWN[kind])), _BROWSE)
        for act, sets in plain.items():
            found[kind, act] = tuple(way for held in sets for way in _with_way_in(kind, held))
    return found


_WAYS = _all_ways()
