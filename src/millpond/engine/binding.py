"""From the names in a plan to places: the one walk over each plan, which refuses what it does not know.

A plan is bound in place. `Binder(absolute=True)` stops half way: it makes names absolute and puts temporary views in
place, which is how a view is stored; the names become places when the view is read.
"""

from collections.abc import Sequence
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from millpond.catalog.domain import Function, ObjectName, Table, TableType
from millpond.catalog.names import quote, split_name
from millpond.engine import changed_rows, guarded, pinning, proto, sources, travel
from millpond.engine.call_sites import GROUP_FUNCTIONS
from millpond.engine.errors import AnalysisError, table_not_found, unsupported
from millpond.engine.information import computed_relation
from millpond.engine.known import KNOWN_EXPRESSIONS, KNOWN_RELATIONS, LEAVES, REFUSED_RELATIONS
from millpond.engine.needs import Needs
from millpond.engine.queries import (
    DENIED_FUNCTIONS,
    SESSION_FUNCTIONS,
    TABLE_FUNCTIONS,
    Query,
    TableSite,
    analyse,
    may_need_analysis,
    user_error_of_table_function,
)
from millpond.engine.rewriting import Paths, References, rewritten
from millpond.engine.routines import call_of_function
from millpond.engine.sessions import Session
from millpond.engine.splicing import plan_ids, reference_names
from millpond.engine.sql_functions import routine_not_found
from millpond.engine.streaming.reads import BindStream, bind_stream, refuse_stream
from millpond.engine.world import World
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, NotFound

MAX_VIEW_DEPTH = 50
GLOBAL_TEMP = "global_temp"
_MAX_DEPTH = 3000
_UNKNOWN_FIELDS_SEEN_TO = 10
"""Deeper than this, each message is looked at by itself: `DiscardUnknownFields` stops at 64 levels."""


class Binder:
    """Binds the plans of one call of one session. Not to be shared or kept."""

    def __init__(
        self,
        *,
        principal: Principal,
        world: World,
        session: Session,
        global_views: dict[str, bytes],
        needs: Needs,
        absolute: bool = False,
        home: tuple[str, str] | None = None,
        views: bool = True,
        depth: int = 0,
        invoker: Principal | None = None,
        trusted: bool = False,
        authors: frozenset[tuple[str, str]] = frozenset(),
        streams: BindStream = refuse_stream,
    ) -> None:
        """`principal` has the rights, `invoker` asks (two, where `trusted`); `authors` own views, functions around."""
        self.streams = streams
        self.principal = principal
        self.invoker = invoker or principal
        self.world = world
        self.catalog = world.catalog
        self.session = session
        self.needs = needs
        self.is_absolute = absolute
        self.trusted = trusted
        self.depth = depth
        self._global_views = global_views
        self._home = home or (session.current_catalog, session.current_schema)
        self._views = views
        self.authors = authors
        self._level = 0
        self._scopes: list[frozenset[str]] = []
        self._tables: dict[ObjectName, Table] = {}

    @property
    def scope(self) -> tuple[object, ...]:
        """Equal for binders in which names mean the same."""
        return (self._home, self.principal.id, self._views)

    # -- the walk -----------------------------------------------------------------------------------------------

    def bind(self, message: Any) -> None:
        """Bind a relation, expression or any message that holds them, in place."""
        kind = message.DESCRIPTOR.full_name
        if kind in LEAVES:
            return
        self._level += 1
        if self._level > _MAX_DEPTH:
            raise AnalysisError(
                "PLAN_TOO_DEEP", f"The plan is nested deeper than {_MAX_DEPTH} levels.", sql_state="54001"
            )
        if self._level > _UNKNOWN_FIELDS_SEEN_TO and len(UnknownFieldSet(message)):
            raise unsupported("The plan has protobuf fields that this gateway does not know; use PySpark 4.1 or 4.2.")
        handler = _HANDLERS.get(kind)
        if handler is None:
            self._bind_fields(message)
        else:
            handler(self, message)
        self._level -= 1

    def _bind_fields(self, message: Any) -> None:
        for field, value in message.ListFields():
            if field.message_type is None:
                continue
            if field.message_type.GetOptions().map_entry:
                if field.message_type.fields_by_name["value"].message_type is not None:
                    for item in value.values():
                        self.bind(item)
            elif field.is_repeated:
                for item in value:
                    self.bind(item)
            else:
                self.bind(value)

    def _relation(self, relation: Any) -> None:
        kind = relation.WhichOneof("rel_type")
        if kind == "read":
            self._read(relation)
        elif kind == "sql":
            self._sql(relation)
        elif kind == "with_relations":
            self._with_relations(relation)
        elif kind in REFUSED_RELATIONS:
            raise unsupported(f"{REFUSED_RELATIONS[kind]}: not supported.")
        elif kind not in KNOWN_RELATIONS:
            raise unsupported(f"Relations of kind {kind or 'none'} are not known to this gateway.")
        elif kind == "cached_remote_relation":
            self._checkpoint(relation.cached_remote_relation.relation_id)
        elif kind == "unresolved_table_valued_function":
            self.check_table_functions({relation.unresolved_table_valued_function.function_name.lower()})
            self._bind_fields(relation.unresolved_table_valued_function)
        else:
            self.bind(getattr(relation, kind))

    def _expression(self, expression: Any) -> None:
        kind = expression.WhichOneof("expr_type")
        if kind == "expression_string":
            self._expression_string(expression.expression_string)
        elif kind == "unresolved_function":
            self._function(expression, expression.unresolved_function.function_name)
        elif kind == "call_function":
            self._function(expression, expression.call_function.function_name)
        elif kind not in KNOWN_EXPRESSIONS and kind is not None:
            raise unsupported(f"Expressions of kind {kind} are not supported by this gateway.")
        elif kind is not None:
            self.bind(getattr(expression, kind))

    def _user_function(self, function: Any) -> None:
        kind = function.WhichOneof("function")
        if kind != "python_udf":
            raise unsupported(f"Functions of kind {kind}: only Python functions can be given to this server.")
        self.needs.runs_code = True
        for argument in function.arguments:
            self.bind(argument)

    def _user_table_function(self, function: Any) -> None:
        self.needs.runs_code = True
        self._bind_fields(function)

    def _refuse_any(self, message: Any) -> None:
        raise unsupported(f"Protobuf extensions ({message.type_url or 'without a type'}) are not supported.")

    # -- functions ----------------------------------------------------------------------------------------------

    def _function(self, expression: Any, name: str) -> None:
        lowered = name.lower().strip("`")
        if lowered in DENIED_FUNCTIONS:
            raise unsupported(f"The function {lowered} is not allowed.")
        if lowered in SESSION_FUNCTIONS:
            answer = self.session_answer(lowered)
            expression.Clear()
            expression.literal.string = answer
            return
        call = getattr(expression, expression.WhichOneof("expr_type"))
        self._bind_fields(call)
        if "." in name or lowered in GROUP_FUNCTIONS or expression.HasField("call_function"):
            text = call_of_function(self, split_name(name), call.arguments, Paths())
            if text is not None:
                expression.Clear()
                expression.expression_string.expression = text

    def session_answer(self, function: str) -> str:
        if function == "current_catalog":
            return self._home[0]
        return self._home[1] if function in {"current_database", "current_schema"} else self.invoker.name

    def check_table_functions(self, names: set[str] | frozenset[str]) -> None:
        """Refuse functions in the place of a table that could read files."""
        for name in names:
            if name not in self.session.table_functions and name not in TABLE_FUNCTIONS:
                raise user_error_of_table_function(name)

    def _expression_string(self, message: Any) -> None:
        text = message.expression
        if not may_need_analysis(text):
            return
        prefix = "SELECT "
        message.expression = rewritten(self, analyse(prefix + text), Paths())[len(prefix) :]

    # -- SQL ----------------------------------------------------------------------------------------------------

    def in_scope(self, name: str) -> bool:
        """Whether a name means a relation that the plan brings along."""
        return any(name.lower() in scope for scope in self._scopes)

    def _with_relations(self, relation: Any) -> None:
        for reference in relation.with_relations.references:
            self.bind(reference)
        self._scopes.append(reference_names(relation.with_relations.references))
        self.bind(relation.with_relations.root)
        self._scopes.pop()

    def _sql(self, relation: Any) -> None:
        sql = relation.sql
        self._bind_fields(sql)
        query = analyse(sql.query)
        if query.kind != "query":
            raise unsupported(f"{query.kind.upper()} is a command; run it with spark.sql alone, not inside a query.")
        text, references = self.splice(query)
        if text != sql.query:
            sql.query = text
        if references:
            bound = proto.relations.Relation()
            if relation.HasField("common"):
                bound.common.CopyFrom(relation.common)
            bound.with_relations.root.sql.CopyFrom(sql)
            bound.with_relations.root.common.plan_id = next(plan_ids)
            bound.with_relations.references.extend(references)
            relation.CopyFrom(bound)

    def splice(self, query: Query, edits: Sequence[tuple[int, int, str]] = ()) -> tuple[str, list[Any]]:
        """The text with names that the engine can resolve, and the relations that these names mean."""
        found = References(set(query.cte_names).union(*self._scopes))
        text = rewritten(self, query, found, edits)
        return text, found.relations

    def splice_change(
        self,
        query: Query,
        target: TableSite,
        replacement: str,
        names: frozenset[str],
        edits: Sequence[tuple[int, int, str]],
    ) -> tuple[str, list[Any]]:
        """As `splice`, for a statement that changes `target`, whose name becomes `replacement`; `names` are bound."""
        self._scopes.append(names)
        spliced = self.splice(query, [(target.start, target.name_end, replacement), *edits])
        self._scopes.pop()
        return spliced

    def bind_arguments(self, relation: Any) -> frozenset[str]:
        """Bind what a SQL command brings along besides its text: parameters and references; the latter's names."""
        if relation.WhichOneof("rel_type") != "with_relations":
            self._bind_fields(relation.sql)
            return frozenset()
        for reference in relation.with_relations.references:
            self.bind(reference)
        self._bind_fields(relation.with_relations.root.sql)
        return reference_names(relation.with_relations.references)

    # -- reads --------------------------------------------------------------------------------------------------

    def _read(self, relation: Any) -> None:
        read = relation.read
        if read.is_streaming:
            bind_stream(self, relation)
            return
        kind = read.WhichOneof("read_type")
        if kind == "data_source":
            sources.check_read(self.catalog, self.principal, read.data_source, self.needs, keep_paths=self.is_absolute)
            if not self.is_absolute:
                travel.as_asked(self, read.data_source)
        elif kind == "named_table":
            self._named_table(relation)
        else:
            raise unsupported("This kind of read is not known to this gateway.")

    def _named_table(self, relation: Any) -> None:
        named = relation.read.named_table
        parts = split_name(named.unparsed_identifier)
        if len(parts) == 1 and self.in_scope(parts[0]):
            return
        options = {key.lower(): value for key, value in named.options.items()}
        if changed_rows.OPTION in options:
            bound = changed_rows.relation_of(self, parts, options)
        else:
            version, timestamp = options.pop("versionasof", None), options.pop("timestampasof", None)
            sources.check_options(options)
            bound = self.table_relation(parts, version, timestamp)
        if relation.HasField("common"):
            bound.common.CopyFrom(relation.common)
        relation.CopyFrom(bound)

    def table_relation(
        self,
        parts: tuple[str, ...],
        version: str | None = None,
        timestamp: str | None = None,
        *,
        alias: str | None = None,
    ) -> Any:
        """A relation that reads what a name means in this session, under the name's last part or `alias`."""
        relation = proto.relations.Relation()
        relation.subquery_alias.alias = alias or parts[-1]
        target = relation.subquery_alias.input
        view = self._find_temp_view(parts)
        if view is not None:
            sources.refuse_as_of(parts, version, timestamp)
            target.ParseFromString(view)
            if not self.is_absolute:
                self.nested(home=self._home, views=False).bind(target)
        elif len(parts) == 2 and sources.is_path_format(parts[0]):
            self._path_source(target.read.data_source, parts, version, timestamp)
        elif self.is_absolute:
            self._absolute_table(target, parts, version, timestamp)
        else:
            self._bind_table(target, parts, version, timestamp)
        return relation

    def _absolute_table(self, target: Any, parts: tuple[str, ...], version: str | None, timestamp: str | None) -> None:
        name = self.absolute_name(parts)
        self.table(parts)  # a view of what does not exist is refused when it is made
        target.read.named_table.unparsed_identifier = ".".join(map(quote, name))
        if version is not None:
            target.read.named_table.options["versionAsOf"] = version
        if timestamp is not None:
            target.read.named_table.options["timestampAsOf"] = timestamp

    def _path_source(self, source: Any, parts: tuple[str, ...], version: str | None, timestamp: str | None) -> None:
        source.format = parts[0].lower()
        source.paths.append(parts[1])
        sources.check_read(self.catalog, self.principal, source, self.needs, keep_paths=self.is_absolute)
        travel.read_as_of(self, source, version, timestamp)

    def _bind_table(self, target: Any, parts: tuple[str, ...], version: str | None, timestamp: str | None) -> None:
        table = self.table(parts)
        require(self.principal, Act.READ, table.securable)
        if not ("view" in dict(self.authors) or table.securable.kept_by_server or table.securable.public):
            self.needs.direct[table.id] = table
        if table.table_type is TableType.VIEW:
            sources.refuse_as_of(parts, version, timestamp)
            if self.catalog.is_computed(table.name):
                target.CopyFrom(computed_relation(self.catalog, self.invoker, table.name))
            else:
                guarded.read_view(self, target, table)
                self.note_contents(target, table)
            return
        version, timestamp = pinning.settled(self, table, version, timestamp)
        guards = self.world.guards_for(self.invoker, table)
        if guards:
            guarded.read_table(self, target, table, guards, version, timestamp)
            self.note_contents(target, table)
            return
        self.needs.read(table.storage_location, str(table.name))
        self.needs.tables[table.storage_location] = table
        sources.read_table(target.read.data_source, table)
        travel.read_as_of(self, target.read.data_source, version, timestamp)

    def expand_view(self, target: Any, table: Table) -> None:
        """Make `target` compute a view of the catalog, with this binder's rights."""
        if self.depth >= MAX_VIEW_DEPTH:
            raise AnalysisError(
                "VIEW_EXCEED_MAX_NESTED_DEPTH", f"Views are nested deeper than {MAX_VIEW_DEPTH} at {table.name}."
            )
        query = target
        self.note_contents(target, table)
        if table.columns:
            target.to_df.column_names.extend(column.name for column in table.columns)
            query = target.to_df.input
        query.sql.query = table.view_definition or ""
        self.nested(home=guarded.home_of(table), views=False, authors=frozenset({("view", table.owner)})).bind(query)

    def note_contents(self, target: Any, table: Table) -> None:
        """Note that a relation is the contents of a table or view, whatever it is computed from."""
        if not target.common.HasField("plan_id"):
            target.common.plan_id = next(plan_ids)
        self.needs.views[target.common.plan_id] = table

    def nested(
        self,
        *,
        home: tuple[str, str],
        views: bool,
        principal: Principal | None = None,
        needs: Needs | None = None,
        trusted: bool | None = None,
        authors: frozenset[tuple[str, str]] = frozenset(),
    ) -> "Binder":
        """A binder for what a name here means, as which it is bound where nothing else is said."""
        inner = Binder(
            principal=principal or self.principal,
            world=self.world,
            session=self.session,
            global_views=self._global_views,
            needs=self.needs if needs is None else needs,
            absolute=self.is_absolute,
            home=home,
            views=views,
            depth=self.depth + 1,
            invoker=self.invoker,
            trusted=self.trusted if trusted is None else trusted,
            authors=self.authors | authors,
            streams=self.streams,
        )
        if principal is None:
            inner._tables = self._tables
        return inner

    # -- names --------------------------------------------------------------------------------------------------

    def _find_temp_view(self, parts: tuple[str, ...]) -> bytes | None:
        if not self._views:
            return None
        if len(parts) == 1:
            return self.session.temp_views.get(parts[0].lower())
        if len(parts) == 2 and parts[0].lower() == GLOBAL_TEMP:
            found = self._global_views.get(parts[1].lower())
            if found is None:
                raise table_not_found(parts)
            return found
        return None

    def finds_temp_view(self, parts: tuple[str, ...]) -> bool:
        """Whether a name means a temporary view."""
        return self._find_temp_view(parts) is not None

    def object_name(self, parts: tuple[str, ...]) -> ObjectName:
        """The full name that a name means. Raises InvalidArgument, TABLE_OR_VIEW_NOT_FOUND."""
        return ObjectName(*self.absolute_name(parts))

    def absolute_name(self, parts: tuple[str, ...]) -> tuple[str, str, str]:
        """Catalog, schema and name that a name of one to three parts means in this session."""
        if len(parts) == 1:
            return (*self._home, parts[0])
        if len(parts) == 2:
            return (self._home[0], parts[0], parts[1])
        if len(parts) == 3:
            return (parts[0], parts[1], parts[2])
        raise table_not_found(parts)

    def table(self, parts: tuple[str, ...]) -> Table:
        """The table or view that a name means. Raises TABLE_OR_VIEW_NOT_FOUND."""
        try:
            name = self.object_name(parts)
        except InvalidArgument as error:
            raise table_not_found(parts) from error
        if name not in self._tables:
            try:
                self._tables[name] = self.world.tables.get(
                    (self.principal, name), lambda: self.catalog.get_table(self.principal, name)
                )
            except NotFound as error:
                raise table_not_found(parts) from error
        return self._tables[name]

    def function(self, parts: tuple[str, ...]) -> Function | None:
        """The function of the catalog that a name means; None for one of one part that may be another's.

        Raises UNRESOLVED_ROUTINE.
        """
        if len(parts) == 1 and f"register_function:{parts[0].lower()}" in self.session.functions and not self.trusted:
            return None
        try:
            found = self.world.function(self.object_name(parts))
        except (InvalidArgument, AnalysisError):
            found = None
        if found is None and len(parts) > 1:
            raise routine_not_found(parts)
        return found

    def _checkpoint(self, relation_id: str) -> None:
        if relation_id not in self.session.remote_relations:
            raise AnalysisError(
                "NO_CACHED_REMOTE_RELATION",
                f"This session has no checkpoint {relation_id}; the engine that held it may have been restarted. "
                "Compute it again.",
                sql_state="42K0K",
            )
        self.needs.remember(self.session.remote_relations[relation_id])


_HANDLERS = {
    "spark.connect.Relation": Binder._relation,
    "spark.connect.Expression": Binder._expression,
    "spark.connect.CommonInlineUserDefinedFunction": Binder._user_function,
    "spark.connect.CommonInlineUserDefinedTableFunction": Binder._user_table_function,
    "google.protobuf.Any": Binder._refuse_any,
}
