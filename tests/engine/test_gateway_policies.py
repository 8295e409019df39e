"""Policies through Spark Connect: what they cover, for whom, and ways around them.

Ann owns the catalog and sets policies on it; governed tags are the administrator's. Bob owns a schema in it, and so may
manage what is in there, but falls under the policies; Eve reads; Sam is exempt.
"""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyspark.errors.exceptions.base import PySparkException
from pyspark.sql import functions as F
from tests.engine.gateways import RunningGateway

from millpond.identity.directory import DirectoryService
from millpond.identity.domain import Draft, PrincipalKind

_RUN = uuid.uuid4().hex[:8]
ANN, BOB, EVE, SAM = (f"{name}-{_RUN}@example.com" for name in ("ann", "bob", "eve", "sam"))
C = f"policed_{_RUN}"
PII, AREA, CLASS = (f"{key}_{_RUN}" for key in ("pii", "area", "class"))
T = f"{C}.s.people"
NUMBER, OTHER = "111-22", "333-44"

ROWS = [(1, "EU", NUMBER), (2, "US", OTHER)]
MASKED = [(1, "EU", "***"), (2, "US", "***")]
MASK = f"CREATE POLICY hide ON CATALOG {C} COLUMN MASK {C}.f.stars TO `account users` EXCEPT `{SAM}` " \
       f"FOR TABLES MATCH COLUMNS has_tag_value('{PII}', 'ssn') AS n ON COLUMN n"  # fmt: skip


def run(session: Any, *statements: str) -> None:
    for statement in statements:
        session.sql(statement).collect()


def rows(frame: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in frame.collect())


def refused(work: Callable[[], Any], *texts: str) -> str:
    """What the user is told: one of the texts, and nothing of what is hidden."""
    with pytest.raises(PySparkException) as caught:
        work()
    told = str(caught.value)
    assert any(text in told for text in texts), told
    assert NUMBER not in told
    assert OTHER not in told
    return told


@pytest.fixture(scope="module")
def admin(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark()
    for user in (ANN, BOB, EVE, SAM):
        gateway.token(user)
    run(
        session,
        f"CREATE GOVERNED TAG {PII} DESCRIPTION 'of a person' VALUES ('ssn', 'email')",
        f"CREATE GOVERNED TAG {AREA}",
        f"CREATE GOVERNED TAG {CLASS} VALUES ('open', 'secret')",
    )
    yield session
    session.stop()


@pytest.fixture(scope="module")
def ann(gateway: RunningGateway, admin: Any) -> Iterator[Any]:
    session = gateway.spark(ANN)
    run(
        session,
        f"CREATE CATALOG {C}",
        f"CREATE SCHEMA {C}.f",
        f"CREATE SCHEMA {C}.s",
        f"GRANT USE CATALOG, USE SCHEMA, SELECT ON CATALOG {C} TO `account users`",
        f"CREATE FUNCTION {C}.f.stars(v STRING) RETURNS STRING RETURN '***'",
        f"CREATE FUNCTION {C}.f.dots(v STRING) RETURNS STRING RETURN '...'",
        f"CREATE FUNCTION {C}.f.only(v STRING, area STRING) RETURNS BOOLEAN RETURN v = area",
        f"ALTER SCHEMA {C}.s SET OWNER TO `{BOB}`",
        MASK,
    )
    yield session
    session.stop()


@pytest.fixture(scope="module")
def bob(gateway: RunningGateway, ann: Any) -> Iterator[Any]:
    session = gateway.spark(BOB)
    run(session, f"USE {C}.s", "CREATE TABLE people (id INT, region STRING, ssn STRING)")
    run(session, f"INSERT INTO people VALUES (1, 'EU', '{NUMBER}'), (2, 'US', '{OTHER}')")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def tagged(admin: Any, bob: Any) -> None:
    """Bob's table, once a steward has tagged it."""
    run(admin, f"SET TAG ON COLUMN {T}.ssn {PII} = ssn")


@pytest.fixture(scope="module")
def eve(gateway: RunningGateway, bob: Any) -> Iterator[Any]:
    session = gateway.spark(EVE)
    yield session
    session.stop()


@pytest.fixture(scope="module")
def sam(gateway: RunningGateway, bob: Any) -> Iterator[Any]:
    session = gateway.spark(SAM)
    yield session
    session.stop()


@pytest.fixture(autouse=True)
def _parses_types(eve: Any) -> None:
    """A session that was stopped, or another test's whose server has ended, would be asked about types for minutes."""
    from pyspark.sql.connect.session import SparkSession

    SparkSession._active_session.session = eve


class TestWhatIsCovered:
    def test_a_tagged_column_is_masked_from_the_next_query_on(self, admin: Any, ann: Any, bob: Any, eve: Any) -> None:
        """Also in sessions that are open, and for the table's owner."""
        run(bob, "CREATE TABLE fresh AS SELECT * FROM people")
        view = eve.table(f"{C}.s.fresh").cache()
        assert rows(view) == ROWS
        run(admin, f"SET TAG ON COLUMN {C}.s.fresh.ssn {PII} = ssn")
        for session in (ann, bob, eve):
            assert rows(session.table(f"{C}.s.fresh")) == MASKED
        assert rows(view) == MASKED
        run(admin, f"UNSET TAG ON COLUMN {C}.s.fresh.ssn {PII}")
        assert rows(view) == ROWS

    @pytest.mark.usefixtures("tagged")
    def test_it_holds_whichever_way_the_table_is_read(self, eve: Any, sam: Any) -> None:
        ways = (
            eve.table(T),
            eve.sql(f"SELECT p.* FROM {T} AS p WHERE p.id < 10"),
            eve.sql(f"SELECT * FROM {T} VERSION AS OF 1"),
            eve.read.option("versionAsOf", 1).table(T),
            eve.sql(f"WITH q AS (SELECT * FROM {T}) SELECT * FROM q"),
            eve.table(T).mapInPandas(lambda frames: frames, "id int, region string, ssn string"),
            eve.table(T).localCheckpoint(),
        )
        for at, frame in enumerate(ways):
            assert rows(frame) == MASKED, at
        assert eve.table(T).filter(f"ssn = '{NUMBER}'").count() == 0
        assert rows(sam.table(T)) == ROWS
        assert rows(sam.sql(f"SELECT * FROM {T} VERSION AS OF 1")) == ROWS

    @pytest.mark.usefixtures("tagged")
    def test_views_show_what_whoever_asks_may_see(self, bob: Any, eve: Any, sam: Any, gateway: RunningGateway) -> None:
        """Whoever made them. Source: Databricks, "ABAC policy evaluation for tables accessed through views"."""
        run(bob, "CREATE VIEW seen AS SELECT id, ssn FROM people")
        assert rows(eve.table(f"{C}.s.seen")) == [(1, "***"), (2, "***")]
        assert rows(sam.table(f"{C}.s.seen")) == [(1, NUMBER), (2, OTHER)]
        run(sam, f"CREATE CATALOG sams_{_RUN}", f"CREATE VIEW sams_{_RUN}.default.v AS SELECT ssn FROM {T}")
        run(sam, f"GRANT USE CATALOG, USE SCHEMA, SELECT ON CATALOG sams_{_RUN} TO `account users`")
        assert rows(eve.table(f"sams_{_RUN}.default.v")) == [("***",), ("***",)]

    def test_a_filter_by_the_schemas_tag_covers_all_tables_below(
        self, admin: Any, ann: Any, eve: Any, sam: Any
    ) -> None:
        """With a constant, and an argument by its tag; a table in which nothing has that is not covered."""
        run(
            ann, f"CREATE SCHEMA {C}.g", f"CREATE TABLE {C}.g.t AS SELECT * FROM VALUES (1, 'EU'), (2, 'US') AS v(a, r)"
        )
        run(ann, f"CREATE TABLE {C}.g.plain AS SELECT 1 AS a")
        run(admin, f"SET TAG ON SCHEMA {C}.g {CLASS} = secret", f"SET TAG ON COLUMN {C}.g.t.r {AREA}")
        run(
            ann,
            f"CREATE POLICY europe ON SCHEMA {C}.g ROW FILTER {C}.f.only TO `{EVE}` FOR TABLES "
            f"WHEN has_tag_value('{CLASS}', 'secret') MATCH COLUMNS has_tag('{AREA}') r USING COLUMNS (r, 'EU')",
        )
        assert rows(eve.table(f"{C}.g.t")) == [(1, "EU")]
        assert rows(eve.table(f"{C}.g.plain")) == [(1,)]
        assert rows(sam.table(f"{C}.g.t")) == [(1, "EU"), (2, "US")]
        run(admin, f"SET TAG ON SCHEMA {C}.g {CLASS} = open")
        assert rows(eve.table(f"{C}.g.t")) == [(1, "EU"), (2, "US")]

    def test_a_group_is_asked_at_each_query(self, gateway: RunningGateway, ann: Any, eve: Any) -> None:
        people = DirectoryService(gateway.database)
        group = people.create(gateway.principal(), PrincipalKind.GROUP, Draft(name=f"g-{_RUN}", display_name="g"))
        run(ann, f"CREATE SCHEMA {C}.h", f"CREATE TABLE {C}.h.t AS SELECT 'EU' AS r")
        run(ann, f"CREATE FUNCTION {C}.h.none() RETURNS BOOLEAN RETURN false")
        run(ann, f"CREATE POLICY p ON TABLE {C}.h.t ROW FILTER {C}.h.none TO `g-{_RUN}` FOR TABLES")
        assert rows(eve.table(f"{C}.h.t")) == [("EU",)]
        member = frozenset({gateway.principal(EVE).id})
        draft = Draft(name=f"g-{_RUN}", display_name="g", member_ids=member)
        people.update(gateway.principal(), PrincipalKind.GROUP, group.account.id, lambda _entry: draft)
        assert rows(eve.table(f"{C}.h.t")) == []
        run(ann, f"DROP POLICY p ON TABLE {C}.h.t")
        assert rows(eve.table(f"{C}.h.t")) == [("EU",)]


class TestConflicts:
    @pytest.fixture
    def table(self, admin: Any, ann: Any) -> str:
        """A table of Ann's with a tagged column, in a schema of its own."""
        schema = f"{C}.x{uuid.uuid4().hex[:8]}"
        run(ann, f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.t AS SELECT '{NUMBER}' AS ssn, 'EU' AS r")
        run(admin, f"SET TAG ON COLUMN {schema}.t.ssn {PII} = ssn", f"SET TAG ON COLUMN {schema}.t.r {AREA}")
        return f"{schema}.t"

    def test_two_masks_of_a_column_show_nothing_and_the_same_twice_does(
        self, ann: Any, eve: Any, sam: Any, table: str
    ) -> None:
        match = f"MATCH COLUMNS has_tag('{PII}') AS n ON COLUMN n"
        mask = f"ON TABLE {table} COLUMN MASK {C}.f.%s TO `account users` FOR TABLES {match}"
        run(ann, "CREATE POLICY again " + mask % "stars")
        assert rows(eve.table(table)) == [("***", "EU")]
        run(ann, "CREATE OR REPLACE POLICY again " + mask % "dots")
        refused(lambda: rows(eve.table(table)), "MULTIPLE_MASKS")
        refused(lambda: rows(eve.sql(f"SELECT r FROM {table}")), "MULTIPLE_MASKS")
        assert rows(sam.table(table)) == [("...", "EU")]

    def test_a_mask_of_the_tables_own_and_a_policys_show_nothing(self, ann: Any, eve: Any, table: str) -> None:
        run(ann, f"ALTER TABLE {table} ALTER COLUMN ssn SET MASK {C}.f.dots")
        refused(lambda: rows(eve.table(table)), "MULTIPLE_MASKS")

    def test_two_filters_show_nothing(self, ann: Any, eve: Any, table: str) -> None:
        match = f"MATCH COLUMNS has_tag('{AREA}') AS r USING COLUMNS (r, '%s')"
        text = f"ON TABLE {table} ROW FILTER {C}.f.only TO `account users` FOR TABLES {match}"
        run(ann, "CREATE POLICY eu " + text % "EU")
        assert rows(eve.table(table)) == [("***", "EU")]
        run(ann, "CREATE POLICY us " + text % "US")
        refused(lambda: rows(eve.table(table)), "UC_ABAC_MULTIPLE_ROW_FILTERS")
        run(ann, f"DROP POLICY us ON TABLE {table}", f"CREATE FUNCTION {table}_f(r STRING) RETURNS BOOLEAN RETURN true")
        run(ann, f"ALTER TABLE {table} SET ROW FILTER {table}_f ON (r)")
        refused(lambda: rows(eve.table(table)), "UC_ABAC_AND_NATIVE_ROW_FILTERS")

    def test_an_argument_that_is_masked_or_not_one_shows_nothing(
        self, admin: Any, ann: Any, eve: Any, table: str
    ) -> None:
        match = "MATCH COLUMNS %s AS r USING COLUMNS (r, 'EU')"
        text = f"CREATE OR REPLACE POLICY p ON TABLE {table} ROW FILTER {C}.f.only TO users FOR TABLES {match}"
        run(ann, text % f"has_tag('{PII}')")
        refused(lambda: rows(eve.table(table)), "UC_ABAC_MASKED_COLUMN_AS_ARGUMENT")
        run(ann, text % f"has_tag('{PII}') OR has_tag('{AREA}')")
        refused(lambda: rows(eve.table(table)), "UC_ABAC_AMBIGUOUS_COLUMN_MATCH")


@pytest.mark.usefixtures("tagged")
class TestWaysAround:
    def test_the_owner_of_the_schema_is_not_above_a_policy_of_the_catalog(self, bob: Any) -> None:
        location = str(bob.sql(f"DESCRIBE DETAIL {T}").first()["location"]).removeprefix("file://")
        for text in (
            f"SELECT * FROM delta.`{location}`",
            f"SELECT * FROM parquet.`{location}/*.parquet`",
            f"DESCRIBE HISTORY delta.`{location}`",
            f"CREATE TABLE {C}.s.clone DEEP CLONE {T}",
            f"UPDATE {T} SET region = 'X' WHERE ssn = '{OTHER}'",
            f"DELETE FROM {T} WHERE ssn = '{OTHER}'",
            f"MERGE INTO {T} t USING (SELECT '{OTHER}' AS s) s ON t.ssn = s.s WHEN MATCHED THEN DELETE",
            f"INSERT INTO {T} REPLACE WHERE ssn = '{OTHER}' SELECT 1, 'US', ''",
            f"ALTER TABLE {T} ADD CONSTRAINT c CHECK (ssn <> '{OTHER}')",
            f"OPTIMIZE {T}",
            f"RESTORE TABLE {T} TO VERSION AS OF 0",
            f"SHOW PARTITIONS {T}",
        ):
            with pytest.raises(PySparkException) as caught:
                run(bob, text)
            assert any(word in str(caught.value) for word in ("MANAGE", "files are for nobody")), (text, caught.value)
        run(bob, f"INSERT INTO {T} VALUES (3, 'EU', '9')", f"DROP POLICY IF EXISTS hide ON SCHEMA {C}.s")
        assert rows(bob.table(T)) == [*MASKED, (3, "EU", "***")]

    def test_the_engine_cannot_reach_the_files(self, bob: Any, admin: Any) -> None:
        """Neither those of a table that was tagged while they were in reach, nor of one that is dropped then."""
        run(bob, f"CREATE TABLE {C}.s.mine AS SELECT '{NUMBER}' AS ssn")
        location = str(bob.sql(f"DESCRIBE DETAIL {C}.s.mine").first()["location"]).removeprefix("file://")

        def look(_value: str, place: str = location) -> str:
            import os

            try:
                return str(len(os.listdir(place)))
            except OSError as error:
                return type(error).__name__

        seen = F.udf(look, "string", useArrow=False)(F.lit("x"))
        assert bob.range(1).select(seen).first()[0].isdecimal()
        run(admin, f"SET TAG ON COLUMN {C}.s.mine.ssn {PII} = ssn")
        assert bob.range(1).select(seen).first()[0] in ("PermissionError", "FileNotFoundError")
        run(bob, f"DROP TABLE {C}.s.mine", f"CREATE TABLE {C}.s.another AS SELECT 1 AS a")
        assert bob.range(1).select(seen).first()[0] in ("PermissionError", "FileNotFoundError")
        run(bob, f"UNDROP TABLE {C}.s.mine")
        assert rows(bob.table(f"{C}.s.mine")) == [("***",)]

    def test_who_may_not_assign_the_tag_cannot_lift_what_asks_for_it(self, bob: Any, admin: Any) -> None:
        for text in (
            f"UNSET TAG ON COLUMN {T}.ssn {PII}",
            f"SET TAG ON COLUMN {T}.ssn {PII} = email",
            f"ALTER TABLE {T} ALTER COLUMN ssn UNSET TAGS ('{PII}')",
            f"DROP GOVERNED TAG {PII}",
            f"ALTER TABLE {T} DROP COLUMN ssn",
            f"CREATE OR REPLACE TABLE {T} (id INT)",
            f"DROP POLICY hide ON CATALOG {C}",
            f"DROP FUNCTION {C}.f.stars",
        ):
            with pytest.raises(PySparkException):
                run(bob, text)
        refused(lambda: run(admin, f"DROP GOVERNED TAG {PII}"), "asks for the tag")
        refused(lambda: run(admin, f"DROP FUNCTION {C}.f.stars"), "by policy 'hide'")
        refused(lambda: run(admin, f"DROP SCHEMA {C}.f CASCADE"), "cannot be dropped")
        assert {row[2] for row in rows(bob.table(T))} == {"***"}

    def test_a_renamed_column_stays_masked_and_earlier_versions_show_no_other(
        self, admin: Any, ann: Any, eve: Any
    ) -> None:
        run(ann, f"CREATE SCHEMA {C}.r", f"CREATE TABLE {C}.r.t AS SELECT 1 AS id, '{NUMBER}' AS ssn")
        run(admin, f"SET TAG ON COLUMN {C}.r.t.ssn {PII} = ssn")
        run(admin, f"ALTER TABLE {C}.r.t RENAME COLUMN ssn TO number")
        assert rows(eve.table(f"{C}.r.t")) == [(1, "***")]
        refused(
            lambda: rows(eve.sql(f"SELECT * FROM {C}.r.t VERSION AS OF 0")), "RESULT_OF_OTHERS_FAILED", "UNRESOLVED"
        )
        run(admin, f"UNSET TAG ON COLUMN {C}.r.t.number {PII}", f"ALTER TABLE {C}.r.t DROP COLUMN number")
        assert rows(eve.table(f"{C}.r.t")) == [(1,)]

    def test_a_column_renamed_before_it_was_tagged_is_not_in_earlier_versions(
        self, admin: Any, ann: Any, eve: Any
    ) -> None:
        run(ann, f"CREATE SCHEMA {C}.b", f"CREATE TABLE {C}.b.t AS SELECT 1 AS id, '{NUMBER}' AS plain, 'x' AS ssn")
        run(ann, f"ALTER TABLE {C}.b.t DROP COLUMN ssn", f"ALTER TABLE {C}.b.t RENAME COLUMN plain TO ssn")
        run(admin, f"SET TAG ON COLUMN {C}.b.t.ssn {PII} = ssn")
        assert rows(eve.sql(f"SELECT * FROM {C}.b.t VERSION AS OF 0")) == [(1, "***")]

    def test_what_is_made_of_it_holds_what_one_sees(self, bob: Any, eve: Any) -> None:
        run(bob, f"CREATE TABLE {C}.s.copy AS SELECT * FROM {T}", f"CREATE TABLE {C}.s.kept (id INT, ssn STRING)")
        assert {row[2] for row in rows(bob.table(f"{C}.s.copy"))} == {"***"}
        merge = "WHEN NOT MATCHED THEN INSERT (id, ssn) VALUES (s.id, s.ssn)"
        run(bob, f"MERGE INTO {C}.s.kept t USING {T} s ON t.id = s.id {merge}")
        assert {row[1] for row in rows(bob.table(f"{C}.s.kept"))} == {"***"}

    def test_a_table_under_its_schemas_policies_is_moved_by_who_manages_these(
        self, gateway: RunningGateway, ann: Any, bob: Any
    ) -> None:
        run(ann, f"CREATE SCHEMA {C}.m", f"GRANT ALL PRIVILEGES ON SCHEMA {C}.m TO `{BOB}`")
        run(bob, f"CREATE TABLE {C}.m.t AS SELECT 'EU' AS r")
        run(ann, f"CREATE FUNCTION {C}.m.none() RETURNS BOOLEAN RETURN false")
        run(ann, f"CREATE POLICY p ON SCHEMA {C}.m ROW FILTER {C}.m.none TO `account users` FOR TABLES")
        assert rows(bob.table(f"{C}.m.t")) == []
        refused(lambda: run(bob, f"ALTER TABLE {C}.m.t RENAME TO {C}.s.t"), "can move it out")
        run(bob, f"ALTER TABLE {C}.m.t RENAME TO {C}.m.u")
        run(ann, f"ALTER TABLE {C}.m.u RENAME TO {C}.s.t")
        assert rows(bob.table(f"{C}.s.t")) == [("EU",)]

    def test_a_policy_that_goes_while_a_query_is_prepared_does_not_break_it(self, ann: Any, eve: Any) -> None:
        frame = eve.table(T).filter("id = 1").select("ssn")
        assert rows(frame) == [("***",)]
        run(ann, f"DROP POLICY hide ON CATALOG {C}")
        assert rows(frame) == [(NUMBER,)]
        run(ann, MASK)
        assert rows(frame) == [("***",)]

    def test_who_sets_the_policy_changes_what_they_see(self, ann: Any, bob: Any) -> None:
        """Who may take it away may change rows, as with a filter of the table's own."""
        run(bob, f"CREATE TABLE {C}.s.changed AS SELECT * FROM VALUES (1, 'EU'), (2, 'US') AS v(a, r)")
        run(ann, f"CREATE POLICY eu ON TABLE {C}.s.changed ROW FILTER {C}.f.only TO `account users` FOR TABLES "
                 f"MATCH COLUMNS NOT has_tag('{PII}') USING COLUMNS ('EU', 'EU')")  # fmt: skip
        run(ann, f"UPDATE {C}.s.changed SET a = 9 WHERE r = 'EU'")
        assert rows(ann.table(f"{C}.s.changed")) == [(2, "US"), (9, "EU")]


class TestCommands:
    def test_policies_are_listed_described_and_dropped(self, ann: Any, bob: Any, eve: Any) -> None:
        assert [tuple(row) for row in ann.sql(f"SHOW POLICIES ON CATALOG {C}").collect()] == [
            ("hide", "COLUMN_MASK", C, None, None, None)
        ]
        assert bob.sql(f"SHOW POLICIES ON TABLE {T}").collect() == []
        assert bob.sql(f"SHOW EFFECTIVE POLICIES ON TABLE {T}").first()["Policy Name"] == "hide"
        told = {row[0]: row[1] for row in ann.sql(f"DESCRIBE POLICY hide ON CATALOG {C}").collect()}
        assert told["Match Columns"] == f"has_tag_value('{PII}', 'ssn') AS n"
        assert (told["To Principals"], told["Except Principals"]) == ("account users", SAM)
        assert (told["Policy Type"], told["  Function Name"], told["  On Column"]) == (
            "COLUMN_MASK",
            f"{C}.f.stars",
            "n",
        )
        for text in (
            f"SHOW POLICIES ON TABLE {T}",
            f"SHOW POLICIES ON CATALOG {C}",
            f"DESCRIBE POLICY hide ON CATALOG {C}",
        ):
            with pytest.raises(PySparkException, match="may not manage"):
                run(eve, text)
        refused(lambda: run(ann, MASK), "POLICY_ALREADY_EXISTS")
        refused(lambda: run(ann, f"DROP POLICY none ON CATALOG {C}"), "POLICY_NOT_FOUND")
        run(ann, f"DROP POLICY IF EXISTS none ON CATALOG {C}")

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ("COLUMN MASK {f}.stars TO `no@x` {tables} has_tag('{p}') AS n ON COLUMN n", "'no@x' does not exist"),
            ("COLUMN MASK {f}.stars TO users {tables} has_tag('free') AS n ON COLUMN n", "not governed"),
            ("COLUMN MASK {f}.stars TO users {tables} has_tag_value('{p}', 'x') n ON COLUMN n", "takes 'ssn', 'email'"),
            ("COLUMN MASK {f}.stars TO users {tables} has_tag('{p}') AS n ON COLUMN m", "'m'"),
            ("COLUMN MASK {f}.stars TO users {tables} has_tag('{p}') AS n", "ON COLUMN"),
            ("COLUMN MASK {f}.only TO users {tables} has_tag('{p}') AS n ON COLUMN n", "takes 2 arguments"),
            ("ROW FILTER {f}.stars TO users FOR TABLES USING COLUMNS (1)", "BOOLEAN"),
            ("ROW FILTER {f}.none TO users FOR TABLES", "UNRESOLVED_ROUTINE"),
            ("ROW FILTER {f}.only TO users FOR TABLES WHEN 'x' = 'x' USING COLUMNS (1, 2)", "has_tag('key')"),
            ("ROW FILTER {f}.only TO users FOR TABLES WHEN has_tag('{p}' USING COLUMNS (1, 2)", "expected )"),
        ],
    )
    def test_what_cannot_hold_is_refused_when_it_is_made(self, ann: Any, body: str, text: str) -> None:
        said = body.format(f=f"{C}.f", p=PII, tables="FOR TABLES MATCH COLUMNS")
        refused(lambda: run(ann, f"CREATE POLICY bad ON CATALOG {C} {said}"), text)

    def test_governed_tags(self, admin: Any, eve: Any) -> None:
        key = f"class.of_{_RUN}".replace(".", "_")
        run(admin, f"CREATE GOVERNED TAG {key} DESCRIPTION 'd' VALUES ('a', 'b')")
        shown = eve.sql(f"SHOW GOVERNED TAGS LIKE '{key}'").first()
        assert (shown["Tag Key"], shown["Description"], shown["Values"]) == (key, "d", "a, b")
        run(admin, f"ALTER GOVERNED TAG {key} SET VALUES ('c')", f"ALTER GOVERNED TAG {key} SET DESCRIPTION 'e'")
        told = {row[0]: row[1] for row in eve.sql(f"DESCRIBE GOVERNED TAG {key}").collect()}
        assert (told["Values"], told["Description"]) == ("c", "e")
        run(admin, f"ALTER GOVERNED TAG {key} SET VALUES ()")
        assert '"values": null' in eve.sql(f"DESC GOVERNED TAG {key} AS JSON").first()[0]
        refused(lambda: run(eve, f"DROP GOVERNED TAG {key}"), "may not manage")
        refused(lambda: run(eve, f"CREATE GOVERNED TAG {key}_2"), "Only an administrator")
        run(admin, f"DROP GOVERNED TAG {key}")
        assert eve.sql(f"SHOW GOVERNED TAGS LIKE '{key}'").collect() == []
