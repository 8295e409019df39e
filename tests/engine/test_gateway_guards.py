"""Row filters, column masks, functions of the catalog and views of others through Spark Connect, and ways around them.

Bob may read and change Ann's table `people`, of which he sees the rows of his region and no number of anybody.
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
ANN, BOB, EVE = (f"{name}-{_RUN}@example.com" for name in ("ann", "bob", "eve"))
C = f"guards_{_RUN}"
PEOPLE = f"{C}.s.people"
HR = f"hr-{_RUN}"
SECRET = "333-44"  # of a row that Bob does not see
HIDDEN = "111-22"  # a value that he does not see, of a row that he sees

SEEN = [(1, "EU", "EU-***"), (3, "EU", "EU-***")]

SETUP = f"""
CREATE CATALOG {C};
CREATE SCHEMA {C}.s;
GRANT USE CATALOG, USE SCHEMA ON CATALOG {C} TO `account users`;
CREATE TABLE {PEOPLE} (id INT, region STRING, ssn STRING);
INSERT INTO {PEOPLE} VALUES (1, 'EU', '{HIDDEN}'), (2, 'US', '{SECRET}'), (3, 'EU', '555-66');
CREATE TABLE {C}.s.regions AS SELECT '{BOB}' AS who, 'EU' AS area;
CREATE FUNCTION {C}.s.in_region(r STRING) RETURNS BOOLEAN
  RETURN current_user() = '{ANN}' OR EXISTS (SELECT 1 FROM regions m WHERE m.who = current_user() AND m.area = r);
CREATE FUNCTION {C}.s.hide(v STRING, r STRING) RETURNS STRING COMMENT 'of a number'
  RETURN CASE WHEN session_user() = '{ANN}' OR is_account_group_member('{HR}') THEN v ELSE concat(r, '-***') END;
ALTER TABLE {PEOPLE} SET ROW FILTER {C}.s.in_region ON (region);
ALTER TABLE {PEOPLE} ALTER COLUMN ssn SET MASK {C}.s.hide USING COLUMNS (region);
GRANT SELECT, MODIFY ON TABLE {PEOPLE} TO `{BOB}`
"""


def run(session: Any, *statements: str) -> None:
    for statement in statements:
        session.sql(statement).collect()


def script(session: Any, text: str) -> None:
    run(session, *(statement.strip() for statement in text.split(";")))


@pytest.fixture(scope="module")
def ann(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(ANN)
    gateway.token(BOB)
    session.sql(f"CREATE CATALOG {C}").collect()
    run(session, f"USE CATALOG {C}", f"CREATE SCHEMA {C}.s", "USE SCHEMA s")
    script(session, SETUP.partition(f"CREATE SCHEMA {C}.s;")[2])
    yield session
    session.stop()


@pytest.fixture(scope="module")
def bob(gateway: RunningGateway, ann: Any) -> Iterator[Any]:
    session = gateway.spark(BOB)
    run(session, f"CREATE CATALOG of_bob_{_RUN}", f"CREATE SCHEMA of_bob_{_RUN}.s", f"USE of_bob_{_RUN}.s")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def location(ann: Any) -> str:
    return str(ann.sql(f"DESCRIBE DETAIL {PEOPLE}").first()["location"]).removeprefix("file://")


@pytest.fixture(autouse=True)
def _parses_types(bob: Any) -> None:
    """A session that was stopped, or another test's whose server has ended, would be asked about types for minutes."""
    from pyspark.sql.connect.session import SparkSession

    SparkSession._active_session.session = bob


def rows(frame: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in frame.collect())


def refused(work: Callable[[], Any], *texts: str) -> str:
    """What the user is told: one of the texts, and nothing of what is hidden."""
    with pytest.raises(PySparkException) as caught:
        work()
    told = str(caught.value)
    assert any(text in told for text in texts), told
    assert SECRET not in told
    assert HIDDEN not in told
    return told


class TestWhatOneSees:
    def test_rows_and_values_are_hidden_whichever_way_they_are_read(self, ann: Any, bob: Any) -> None:
        ways = (
            bob.table(PEOPLE),
            bob.sql(f"SELECT * FROM {PEOPLE}"),
            bob.sql(f"SELECT p.* FROM {PEOPLE} AS p WHERE p.id < 10"),
            bob.sql(f"SELECT * FROM {PEOPLE} VERSION AS OF 1"),
            bob.read.option("versionAsOf", 1).table(PEOPLE),
            bob.sql("SELECT * FROM {p}", p=bob.table(PEOPLE)),
            bob.sql(f"WITH q AS (SELECT * FROM {PEOPLE}) SELECT * FROM q"),
            bob.table(PEOPLE).mapInPandas(lambda frames: frames, "id int, region string, ssn string"),
            bob.table(PEOPLE).cache(),
            bob.table(PEOPLE).localCheckpoint(),
            bob.sql(f"SELECT * FROM {C} . `s`. /* people of others */ `people` -- {PEOPLE}"),
        )
        for at, frame in enumerate(ways):
            assert rows(frame) == SEEN, at
        assert rows(ann.table(PEOPLE)) == [(1, "EU", HIDDEN), (2, "US", SECRET), (3, "EU", "555-66")]
        assert rows(bob.sql(f"SELECT * FROM {PEOPLE} VERSION AS OF 0")) == []

    def test_what_is_masked_is_not_in_earlier_versions_under_another_name(self, ann: Any, bob: Any) -> None:
        table = f"{C}.s.renamed"
        run(ann, f"CREATE TABLE {table} AS SELECT 1 AS id, '{HIDDEN}' AS plain, 'EU' AS region, 'x' AS ssn")
        run(ann, f"ALTER TABLE {table} DROP COLUMN ssn", f"ALTER TABLE {table} RENAME COLUMN plain TO ssn")
        run(ann, f"ALTER TABLE {table} ALTER COLUMN ssn SET MASK {C}.s.hide USING COLUMNS (region)")
        run(ann, f"GRANT SELECT ON TABLE {table} TO `{BOB}`")
        assert HIDDEN not in str(rows(bob.sql(f"SELECT * FROM {table} VERSION AS OF 0")))
        refused(lambda: bob.sql(f"SELECT plain FROM {table} VERSION AS OF 0").collect(), "UNRESOLVED")

    def test_expressions_aggregates_and_joins_see_no_more(self, bob: Any) -> None:
        assert bob.range(1).selectExpr(f"(SELECT count(*) FROM {PEOPLE})").first()[0] == 2
        assert bob.table(PEOPLE).filter(f"ssn = '{SECRET}' OR ssn = '{HIDDEN}'").count() == 0
        assert bob.table(PEOPLE).agg(F.max("ssn"), F.count("*")).first()[:] == ("EU-***", 2)
        joined = bob.sql(f"SELECT a.ssn FROM {PEOPLE} a JOIN {PEOPLE} b ON a.id = b.id")
        assert rows(joined) == [("EU-***",), ("EU-***",)]

    def test_the_schema_stays_and_pages_describe_no_values(self, ann: Any, bob: Any) -> None:
        assert bob.table(PEOPLE).dtypes == [("id", "int"), ("region", "string"), ("ssn", "string")]
        told = {row[0]: row[1] for row in bob.sql(f"DESCRIBE EXTENDED {PEOPLE} ssn").collect()}
        assert {told["min"], told["max"]} == {"NULL"}
        bob.sql(f"ANALYZE TABLE {PEOPLE} COMPUTE STATISTICS FOR ALL COLUMNS").collect()
        shown = [tuple(row) for row in bob.sql(f"DESCRIBE EXTENDED {PEOPLE}").collect()]
        assert ("Function", f"{C}.s.in_region", "") in shown
        assert ("ssn", f"{C}.s.hide", "region") in shown

    def test_a_changed_table_group_or_function_counts_from_the_next_statement(self, ann: Any, bob: Any) -> None:
        run(ann, f"CREATE TABLE {C}.s.fresh AS SELECT 1 AS a", f"GRANT SELECT ON TABLE {C}.s.fresh TO `{BOB}`")
        run(ann, f"CREATE FUNCTION {C}.s.small(v INT) RETURNS BOOLEAN RETURN v < 3")
        run(ann, f"ALTER TABLE {C}.s.fresh SET ROW FILTER {C}.s.small ON (a)")
        assert rows(bob.table(f"{C}.s.fresh")) == [(1,)]
        run(ann, f"INSERT INTO {C}.s.fresh VALUES (2), (3)")
        assert rows(bob.table(f"{C}.s.fresh")) == [(1,), (2,)]
        run(ann, f"CREATE OR REPLACE FUNCTION {C}.s.small(v INT) RETURNS BOOLEAN RETURN v > 2")
        assert rows(bob.table(f"{C}.s.fresh")) == [(3,)]
        run(ann, f"ALTER TABLE {C}.s.fresh DROP ROW FILTER")
        assert bob.table(f"{C}.s.fresh").count() == 3

    def test_a_member_of_a_group_sees_more_at_once_and_less_again(self, gateway: RunningGateway, bob: Any) -> None:
        admin, directory = gateway.principal(), DirectoryService(gateway.database)
        member = Draft(name=HR, display_name=HR, member_ids=frozenset({gateway.principal(BOB).id}))
        made = directory.create(admin, PrincipalKind.GROUP, member)
        assert rows(bob.table(PEOPLE).select("ssn")) == [(HIDDEN,), ("555-66",)]
        asked = f"is_member('{HR}'), is_account_group_member('nobody'), is_member('account users')"
        assert bob.sql(f"SELECT {asked}").first()[:] == (True, False, True)
        directory.delete(admin, PrincipalKind.GROUP, made.account.id)
        assert rows(bob.table(PEOPLE)) == SEEN

    def test_no_row_at_all_is_an_empty_result_of_the_same_columns(self, ann: Any, bob: Any) -> None:
        run(ann, f"CREATE TABLE {C}.s.none AS SELECT 1 AS a, array(named_struct('b', 'x')) AS c")
        run(
            ann,
            f"GRANT SELECT ON TABLE {C}.s.none TO `{BOB}`",
            f"CREATE FUNCTION {C}.s.no() RETURNS BOOLEAN RETURN false",
        )
        run(ann, f"ALTER TABLE {C}.s.none SET ROW FILTER {C}.s.no ON ()")
        found = bob.table(f"{C}.s.none")
        assert rows(found) == []
        assert found.dtypes == ann.sql(f"SELECT * FROM {C}.s.none").dtypes

    def test_names_of_any_letters_and_marks(self, ann: Any, bob: Any) -> None:
        run(
            ann,
            "CREATE TABLE `löhne_2026` (`Brutto €` DOUBLE, `a``b` STRING, `x.y` INT, Region STRING)",
            "INSERT INTO `löhne_2026` VALUES (1.5, 'q', 1, 'EU'), (2.5, 'r', 2, 'US')",
            "CREATE FUNCTION zero_of(v DOUBLE, w STRING, i INT) RETURNS DOUBLE RETURN i * 0",
            "ALTER TABLE `löhne_2026` SET ROW FILTER in_region ON (REGION)",
            "ALTER TABLE `löhne_2026` ALTER COLUMN `brutto €` SET MASK zero_of USING COLUMNS (`A``b`, `x.y`)",
            f"GRANT SELECT ON TABLE `löhne_2026` TO `{BOB}`",
        )
        assert rows(bob.sql(f"SELECT * FROM {C}.s.`LÖHNE_2026`")) == [(0.0, "q", 1, "EU")]


class TestWaysAround:
    def test_a_function_of_the_users_own_sees_no_hidden_row_and_no_file(
        self, gateway: RunningGateway, bob: Any, location: str
    ) -> None:
        def snoop(_: Any) -> str:
            import os

            found = []
            for place in places:
                try:
                    found.append(str(os.listdir(place)))
                except OSError as error:
                    found.append(type(error).__name__)
            return ",".join(found)

        spools = gateway.home.run / "gateway" / "spools"
        own = spools / gateway.principal(BOB).id
        places = [location, str(spools), str(own / "kept"), str(own / "inner"), str(gateway.home.root)]
        told = bob.table(PEOPLE).limit(1).select(F.udf(snoop, "string", useArrow=False)("id")).first()[0]
        assert set(told.split(",")) <= {"PermissionError", "FileNotFoundError"}

        def leak(ssn: str) -> bool:
            raise ValueError(ssn)

        refused(lambda: bob.table(PEOPLE).filter(F.udf(leak, "boolean", useArrow=False)("ssn")).collect(), "EU-***")

    def test_files_that_were_in_reach_are_so_no_more(self, ann: Any, bob: Any) -> None:
        """The engine that read them before there was a filter does not serve the next statement."""
        table = f"{C}.s.open"
        run(ann, f"CREATE TABLE {table} AS SELECT 'US' AS region", f"GRANT SELECT, MODIFY ON TABLE {table} TO `{BOB}`")
        run(bob, f"INSERT INTO {table} VALUES ('EU')")
        place = ann.sql(f"DESCRIBE DETAIL {table}").first()["location"].removeprefix("file://")

        def look(_: Any) -> str:
            import os

            try:
                return str(len(os.listdir(place)))
            except OSError as error:
                return type(error).__name__

        seen = F.udf(look, "string", useArrow=False)("region")
        assert bob.table(table).select(seen).first()[0].isdecimal()
        run(ann, f"ALTER TABLE {table} SET ROW FILTER {C}.s.in_region ON (region)")
        assert rows(bob.table(table).select("region", seen)) == [("EU", "PermissionError")]

    @pytest.mark.parametrize(
        "condition",
        [
            "1 / (id - 2) > 0",
            "CAST(ssn AS INT) > 0 OR id IN (1, 3)",
            "IF(region = 'US', raise_error(ssn), true)",
            "assert_true(region = 'EU') IS NULL",
            "length(ssn) > 0 AND CASE WHEN id = 2 THEN CAST(ssn AS DATE) IS NULL ELSE true END",
        ],
    )
    def test_a_predicate_that_fails_on_a_hidden_row_never_meets_it(self, bob: Any, condition: str) -> None:
        told = "nothing"
        try:
            assert set(rows(bob.sql(f"SELECT id, region, ssn FROM {PEOPLE} WHERE {condition}"))) <= set(SEEN)
        except PySparkException as error:
            told = str(error)
        assert told == "nothing" or "EU-***" in told  # it may fail on what Bob sees
        assert SECRET not in told

    def test_paths_are_refused_to_everybody(self, ann: Any, bob: Any, location: str) -> None:
        for session in (ann, bob):
            for make in (
                lambda s: s.sql(f"SELECT * FROM delta.`{location}`"),
                lambda s: s.sql(f"SELECT * FROM parquet.`{location}/*.parquet`"),
                lambda s: s.read.format("delta").option("readChangeFeed", "true").load(location),
                lambda s: s.sql(f"DESCRIBE HISTORY delta.`{location}`"),
                lambda s: s.sql(f"UPDATE delta.`{location}` SET id = 0"),
            ):
                refused(lambda make=make, session=session: make(session).collect(), "row filter or column masks")
        refused(lambda: bob.sql(f"SELECT * FROM table_changes('{PEOPLE}', 0)").collect(), "table-valued function")

    def test_another_name_does_not_help(self, bob: Any) -> None:
        bob.table(PEOPLE).createOrReplaceTempView("people")
        bob.table(PEOPLE).createOrReplaceGlobalTempView("people")
        run(bob, f"CREATE OR REPLACE VIEW mine AS SELECT * FROM {PEOPLE}")
        run(bob, "CREATE OR REPLACE VIEW outer_of_mine AS SELECT * FROM mine WHERE 1 / (id - 2) > -9")
        for name in ("people", "global_temp.people", "mine", "outer_of_mine"):
            assert rows(bob.table(name)) == SEEN, name
        assert (
            rows(bob.sql(f"WITH people AS (SELECT 2 AS id) SELECT p.id FROM people p JOIN {PEOPLE} q ON p.id = q.id"))
            == []
        )
        refused(lambda: bob.sql(f"EXECUTE IMMEDIATE 'SELECT * FROM {PEOPLE}'").collect(), "EXECUTE")

    def test_what_is_made_of_it_holds_what_one_sees(self, bob: Any) -> None:
        run(bob, f"CREATE TABLE copy AS SELECT * FROM {PEOPLE}", "CREATE TABLE kept (id INT, ssn STRING)")
        assert rows(bob.table("copy")) == SEEN
        run(bob, f"INSERT INTO kept SELECT id, ssn FROM {PEOPLE}")
        insert = "WHEN NOT MATCHED THEN INSERT (id, ssn) VALUES (s.id + 10, s.ssn)"
        run(bob, f"MERGE INTO kept t USING {PEOPLE} s ON t.id = s.id + 10 {insert}")
        bob.table(PEOPLE).select((F.col("id") + 20).alias("id"), "ssn").write.mode("append").saveAsTable("kept")
        assert {row[1] for row in rows(bob.table("kept"))} == {"EU-***"}
        assert bob.table("kept").count() == 6
        run(bob, "DELETE FROM kept")
        refused(lambda: run(bob, f"CREATE TABLE clone DEEP CLONE {PEOPLE}"), "without MANAGE")

    def test_what_tells_of_all_rows_is_for_managers(self, bob: Any) -> None:
        for text in (
            f"UPDATE {PEOPLE} SET id = 1 / (id - 2)",
            f"DELETE FROM {PEOPLE} WHERE ssn = '{SECRET}'",
            f"MERGE INTO {PEOPLE} t USING (SELECT 2 AS id) s ON t.id = s.id WHEN MATCHED THEN DELETE",
            f"INSERT INTO {PEOPLE} REPLACE WHERE region = 'US' SELECT 1, 'US', ''",
            f"ALTER TABLE {PEOPLE} ADD CONSTRAINT c CHECK (region = 'EU')",
            f"ALTER TABLE {PEOPLE} ALTER COLUMN ssn DROP MASK",
            f"ALTER TABLE {PEOPLE} DROP ROW FILTER",
            f"ALTER TABLE {PEOPLE} RENAME COLUMN region TO r",
            f"OPTIMIZE {PEOPLE} WHERE region = 'US'",
            f"VACUUM {PEOPLE} DRY RUN",
            f"SHOW PARTITIONS {PEOPLE}",
        ):
            refused(lambda text=text: run(bob, text), "MANAGE")

    def test_explanations_and_file_names_show_no_place_and_no_mask(self, gateway: RunningGateway, bob: Any) -> None:
        frame = bob.table(PEOPLE)
        told = frame._explain_string(extended=True) + bob.sql(f"EXPLAIN EXTENDED SELECT * FROM {PEOPLE}").first()[0]
        told += str(frame.inputFiles())
        assert "spools" not in told
        assert "hide" not in told
        assert "***" not in told
        assert str(gateway.home.root) not in told
        assert frame.sameSemantics(bob.table(PEOPLE))

    def test_settings_of_the_session_do_not_change_what_a_filter_says(self, ann: Any, gateway: RunningGateway) -> None:
        session = gateway.spark(BOB)
        session.conf.set("spark.sql.ansi.enabled", "false")
        session.conf.set("spark.sql.caseSensitive", "true")
        assert rows(session.table(PEOPLE)) == SEEN
        session.udf.register("current_user", lambda: ANN, "string")
        session.udf.register("in_region", lambda _: True, "boolean")
        assert rows(session.table(PEOPLE)) == SEEN
        session.stop()

    def test_a_filter_that_fails_tells_nothing_and_shows_nothing(self, ann: Any, bob: Any) -> None:
        run(ann, f"CREATE TABLE {C}.s.odd AS SELECT '{SECRET}' AS a", f"GRANT SELECT ON TABLE {C}.s.odd TO `{BOB}`")
        run(ann, f"CREATE FUNCTION {C}.s.number(v STRING) RETURNS BOOLEAN RETURN CAST(v AS INT) > 0")
        run(ann, f"ALTER TABLE {C}.s.odd SET ROW FILTER {C}.s.number ON (a)")
        refused(lambda: bob.table(f"{C}.s.odd").collect(), "CAST_INVALID_INPUT")

    def test_refusals_are_audited(self, gateway: RunningGateway, bob: Any, location: str) -> None:
        refused(lambda: bob.read.format("delta").load(location).collect(), "row filter")
        refused(lambda: run(bob, f"DELETE FROM {PEOPLE}"), "MANAGE")
        admin = gateway.spark()
        told = admin.table("system.access.audit").filter(
            f"user_identity.email = '{BOB}' AND response.status_code = 403"
        )
        assert {str(row["request_params"]) for row in told.collect()} >= set()
        assert told.count() >= 2
        admin.stop()


class TestChanges:
    def test_who_sees_part_of_it_may_insert(self, ann: Any, bob: Any) -> None:
        run(
            ann,
            f"CREATE TABLE {C}.s.log (id INT, region STRING)",
            f"GRANT SELECT, MODIFY ON TABLE {C}.s.log TO `{BOB}`",
        )
        run(ann, f"ALTER TABLE {C}.s.log SET ROW FILTER {C}.s.in_region ON (region)")
        run(bob, f"INSERT INTO {C}.s.log VALUES (1, 'EU'), (2, 'US')")
        bob.createDataFrame([(3, "US")], "id int, region string").write.mode("append").saveAsTable(f"{C}.s.log")
        assert rows(bob.table(f"{C}.s.log")) == [(1, "EU")]
        assert ann.table(f"{C}.s.log").count() == 3
        assert ann.sql(f"DESCRIBE HISTORY {C}.s.log").first()["userName"] == BOB

    def test_a_manager_changes_the_rows_that_are_seen(self, ann: Any, bob: Any) -> None:
        run(bob, "CREATE TABLE own (id INT, area STRING)", "INSERT INTO own VALUES (1, 'a'), (2, 'b')")
        run(bob, "CREATE FUNCTION only_a(x STRING) RETURNS BOOLEAN RETURN x = 'a'")
        run(bob, "ALTER TABLE own SET ROW FILTER only_a ON (area)")
        assert bob.sql("UPDATE own SET id = id + 10 WHERE id > 0 OR true").first()[0] == 1
        assert bob.sql("DELETE FROM own WHERE id < 5").first()[0] == 0
        merge = "MERGE INTO own AS t USING (SELECT 2 AS id) s ON t.id = s.id WHEN MATCHED THEN DELETE"
        assert bob.sql(merge).first()[0] == 0
        told = {(commit["operation"], commit["userName"]) for commit in bob.sql("DESCRIBE HISTORY own").collect()}
        assert ("UPDATE", BOB) in told
        unmatched = (
            "MERGE INTO own t USING (SELECT 2 AS id) s ON t.id = s.id WHEN NOT /**/ MATCHED BY SOURCE THEN DELETE"
        )
        refused(lambda: run(bob, unmatched), "ROW_LEVEL_SECURITY_MERGE_UNSUPPORTED_TARGET")
        run(bob, "ALTER TABLE own DROP ROW FILTER")
        assert rows(bob.table("own")) == [(2, "b"), (11, "a")]

    def test_columns_that_a_filter_or_mask_needs_stay(self, ann: Any) -> None:
        for text, error in (
            (f"ALTER TABLE {PEOPLE} DROP COLUMN ssn", "COLUMN_MASKS_INCOMPATIBLE_SCHEMA_CHANGE"),
            (f"ALTER TABLE {PEOPLE} RENAME COLUMN region TO r", "ROW_LEVEL_SECURITY_INCOMPATIBLE_SCHEMA_CHANGE"),
            (f"CREATE OR REPLACE TABLE {PEOPLE} (id INT)", "INCOMPATIBLE_SCHEMA_CHANGE"),
            (f"CREATE OR REPLACE TABLE {PEOPLE} AS SELECT 1 AS id", "INCOMPATIBLE_SCHEMA_CHANGE"),
            (f"DROP FUNCTION {C}.s.hide", PEOPLE),
        ):
            refused(lambda text=text: run(ann, text), error)


class TestFunctions:
    def test_they_are_called_by_name_with_names_defaults_and_each_other(self, ann: Any) -> None:
        run(
            ann,
            "CREATE FUNCTION twice(x INT) RETURNS BIGINT RETURN x * 2 -- and no more",
            "CREATE FUNCTION near(x DOUBLE, y DOUBLE DEFAULT 1.0) RETURN abs(x - y) < twice(1)",
            "CREATE FUNCTION IF NOT EXISTS twice(x INT) RETURNS BIGINT RETURN 0",
        )
        assert rows(ann.sql("SELECT twice(twice(3)), near(2), near(y => 9, x => 2)")) == [(12, True, False)]
        assert ann.sql(f"SELECT {C}.s.twice(id) FROM range(2) WHERE s.twice(id) > 0").columns == [f"{C}.s.twice(id)"]
        assert rows(ann.range(2).selectExpr(f"{C}.s.twice(id + 1) AS x")) == [(2,), (4,)]
        assert rows(ann.range(2).select(F.call_function(f"{C}.s.twice", F.col("id") + 1))) == [(2,), (4,)]
        assert rows(ann.range(3).filter("twice(id) = 2")) == [(1,)]
        run(
            ann,
            "CREATE TABLE numbers AS SELECT s.twice(id) AS x FROM range(2)",
            "INSERT INTO numbers VALUES (twice(7))",
        )
        ann.sql("UPDATE numbers SET x = twice(:by) WHERE x = twice(7)", args={"by": 4}).collect()
        assert rows(ann.table("numbers")) == [(0,), (2,), (8,)]
        assert rows(ann.sql("SELECT twice(:by)", args={"by": 4})) == [(8,)]
        refused(lambda: ann.sql("SELECT twice(?)", args=[4]).collect(), "give it a name")
        run(ann, "CREATE OR REPLACE VIEW doubled AS SELECT twice(id) AS x FROM range(2)")
        assert rows(ann.table("doubled")) == [(0,), (2,)]
        ann.range(2).selectExpr("twice(id) AS x").createOrReplaceTempView("later")
        run(ann, "CREATE OR REPLACE FUNCTION twice(x INT) RETURNS BIGINT RETURN x * 3", "USE main.default")
        assert rows(ann.table("later")) == [(0,), (3,)]
        run(ann, f"USE {C}.s")

    def test_they_are_described_listed_and_dropped(self, ann: Any, bob: Any) -> None:
        told = [row[0] for row in ann.sql(f"DESCRIBE FUNCTION EXTENDED {C}.s.hide").collect()]
        assert f"Function:      {C}.s.hide" in told
        assert "Input:         v STRING, r STRING" in told
        assert "Comment:       of a number" in told
        assert (f"{C}.s.hide",) in rows(ann.sql(f"SHOW FUNCTIONS IN {C}.s"))
        assert ann.catalog.functionExists(f"{C}.s.hide")
        assert not bob.catalog.functionExists(f"{C}.s.hide")
        assert ann.catalog.getFunction("hide").description == "of a number"
        assert "in_region" in {function.name for function in ann.catalog.listFunctions(f"{C}.s")}
        run(ann, "CREATE FUNCTION gone() RETURNS INT RETURN 1", "DROP FUNCTION gone")
        refused(lambda: ann.sql(f"SELECT {C}.s.gone()").collect(), "UNRESOLVED_ROUTINE")

    def test_they_need_execute_and_read_with_the_rights_of_the_caller(self, ann: Any, bob: Any) -> None:
        run(ann, f"CREATE FUNCTION {C}.s.areas() RETURNS BIGINT RETURN (SELECT count(*) FROM {C}.s.regions)")
        assert ann.sql(f"SELECT {C}.s.areas()").first()[0] == 1
        refused(lambda: bob.sql(f"SELECT {C}.s.areas()").collect(), "UNRESOLVED_ROUTINE")
        run(ann, f"GRANT EXECUTE ON FUNCTION {C}.s.areas TO `{BOB}`")
        refused(lambda: bob.sql(f"SELECT {C}.s.areas()").collect(), "TABLE_OR_VIEW_NOT_FOUND")

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("f(x INT) RETURNS INT RETURN y", "UNRESOLVED_COLUMN"),
            ("f(x INT) RETURNS INT RETURN x) FROM range(1", "PARSE_SYNTAX_ERROR"),
            ("f(x INT) RETURNS INT RETURN x, x", "PARSE_SYNTAX_ERROR"),
            ("f(x INT, X INT) RETURNS INT RETURN x", "DUPLICATE_ROUTINE_PARAMETER_NAMES"),
            ("f(x INT) RETURNS INT LANGUAGE SCALA AS $$ 1 $$", "UNSUPPORTED"),
            ("f() RETURNS INT RETURN no_such_function_at_all()", "UNRESOLVED_ROUTINE"),
            ("f() RETURNS INT RETURN (SELECT max(id) FROM nowhere.at.all)", "TABLE_OR_VIEW_NOT_FOUND"),
            ("f(x INT DEFAULT (SELECT max(id) FROM delta.`/etc`)) RETURNS INT RETURN x", "UNSUPPORTED"),
            ("f() RETURNS INT RETURN reflect('java.lang.System', 'getenv')", "not allowed"),
            ("hide() RETURNS INT RETURN 1", "ROUTINE_ALREADY_EXISTS"),
        ],
    )
    def test_what_is_no_function_is_refused(self, ann: Any, text: str, error: str) -> None:
        refused(lambda: run(ann, f"CREATE FUNCTION {text}"), error)

    def test_an_argument_is_not_taken_for_a_column_of_the_body(self, ann: Any) -> None:
        run(
            ann,
            "CREATE FUNCTION known(r STRING) RETURNS BOOLEAN RETURN EXISTS (SELECT 1 FROM regions m WHERE m.area = r)",
        )
        assert rows(ann.sql("SELECT known(z) FROM (SELECT 'EU' AS z)")) == [(True,)]
        refused(lambda: ann.sql("SELECT known(area) FROM (SELECT 'XX' AS area)").collect(), "another name")

    def test_calls_that_grow_without_end_are_an_error_at_once(self, ann: Any) -> None:
        """In depth, in number though nothing is left of them, and in text."""
        run(ann, "CREATE FUNCTION one(x INT) RETURNS INT RETURN 1", "CREATE FUNCTION d0(x INT) RETURNS INT RETURN x")

        def grow() -> None:
            for at in range(1, 12):
                run(ann, f"CREATE FUNCTION d{at}(x INT) RETURNS INT RETURN one(d{at - 1}(x) + d{at - 1}(x))")

        refused(grow, "FUNCTION_TOO_LARGE")
        run(ann, "CREATE OR REPLACE FUNCTION d0(x INT) RETURNS INT RETURN d0(x)")
        refused(lambda: ann.sql("SELECT d0(1)").collect(), "FUNCTION_TOO_LARGE")
        run(ann, "CREATE FUNCTION doubled_(x INT) RETURNS INT RETURN x + x")
        refused(lambda: ann.sql("SELECT " + "doubled_(" * 40 + "1" + ")" * 40).collect(), "FUNCTION_TOO_LARGE")

    def test_guards_must_fit(self, ann: Any) -> None:
        run(ann, "CREATE FUNCTION same(x INT) RETURNS INT RETURN x")
        for text, error in (
            ("SET ROW FILTER same ON (id)", "FILTER_NOT_BOOLEAN"),
            ("SET ROW FILTER in_region ON ()", "WRONG_NUM_ARGS"),
            ("SET ROW FILTER in_region ON (nothing)", "UNRESOLVED_COLUMN"),
            ("SET ROW FILTER nothing ON (id)", "UNRESOLVED_ROUTINE"),
            ("ALTER COLUMN ssn SET MASK same", "DATATYPE_MISMATCH"),
            ("ALTER COLUMN id SET MASK hide USING COLUMNS (id)", "SAME_AS_TARGET_COLUMN"),
            ("ALTER COLUMN id SET MASK hide USING COLUMNS (region)", "DATATYPE_MISMATCH"),
        ):
            refused(lambda text=text: run(ann, f"ALTER TABLE {PEOPLE} {text}"), error)
        refused(
            lambda: run(ann, "ALTER TABLE doubled SET ROW FILTER in_region ON (x)"), "WRONG_COMMAND_FOR_OBJECT_TYPE"
        )

    def test_a_table_is_made_with_them(self, ann: Any, bob: Any) -> None:
        run(
            ann,
            "CREATE TABLE made (id INT, region STRING COMMENT 'c', ssn STRING MASK hide USING COLUMNS (region)) "
            "WITH ROW FILTER in_region ON (region)",
            "INSERT INTO made VALUES (1, 'EU', 'x'), (2, 'US', 'y')",
            f"GRANT SELECT ON TABLE made TO `{BOB}`",
        )
        assert rows(bob.table(f"{C}.s.made")) == [(1, "EU", "EU-***")]
        text = ann.sql("SHOW CREATE TABLE made").first()[0]
        assert f"ssn STRING MASK {C}.s.hide USING COLUMNS (region)" in text.replace("`", "")
        assert f"WITH ROW FILTER {C}.s.in_region ON (region)" in text.replace("`", "")
        filters = bob.sql(f"SELECT * FROM {C}.information_schema.row_filters WHERE table_name = 'made'")
        assert rows(filters) == [(C, "s", "made", C, "s", "in_region", "region", C, "s", "region")]
        masks = bob.sql("SELECT column_name, mask_name, mask_col_usage, using_columns "
                        "FROM system.information_schema.column_masks "
                        f"WHERE catalog_name = '{C}' AND table_catalog = '{C}' AND table_name = 'made'")  # fmt: skip
        assert rows(masks) == [("ssn", "hide", "region", "region")]


@pytest.fixture(scope="module")
def secrets(ann: Any) -> str:
    """A view of Ann's which Bob may read, of a table that he may not."""
    run(
        ann,
        f"CREATE TABLE {C}.s.secrets AS SELECT 1 AS id, '{BOB}' AS who, 'x1' AS word UNION ALL SELECT 2, 'b', 'y2'",
        f"CREATE VIEW {C}.s.mine AS SELECT id, word, current_user() AS me FROM {C}.s.secrets WHERE who = user()",
        f"GRANT SELECT ON VIEW {C}.s.mine TO `{BOB}`",
    )
    return f"{C}.s.mine"


@pytest.mark.usefixtures("secrets")
class TestViewsOfOthers:
    def test_one_needs_no_right_to_the_tables_below(self, ann: Any, bob: Any) -> None:
        assert rows(bob.table(f"{C}.s.mine")) == [(1, "x1", BOB)]
        assert rows(bob.sql(f"SELECT m.word FROM {C}.s.mine m WHERE 1 / (id - 2) < 0")) == [("x1",)]
        assert rows(ann.table(f"{C}.s.mine")) == []
        refused(lambda: bob.table(f"{C}.s.secrets").collect(), "TABLE_OR_VIEW_NOT_FOUND")

    def test_its_rights_end_with_its_owners(self, gateway: RunningGateway, ann: Any, bob: Any) -> None:
        eve = gateway.spark(EVE)
        run(ann, f"GRANT CREATE TABLE ON SCHEMA {C}.s TO `{EVE}`", f"GRANT SELECT ON TABLE {C}.s.secrets TO `{EVE}`")
        run(eve, f"CREATE VIEW {C}.s.of_eve AS SELECT word FROM {C}.s.secrets")
        run(eve, f"GRANT SELECT ON VIEW {C}.s.of_eve TO `{BOB}`")
        assert rows(bob.table(f"{C}.s.of_eve")) == [("x1",), ("y2",)]
        run(ann, f"REVOKE SELECT ON TABLE {C}.s.secrets FROM `{EVE}`")
        for session in (bob, eve):
            refused(
                lambda session=session: session.table(f"{C}.s.of_eve").collect(),
                "TABLE_OR_VIEW_NOT_FOUND" if session is eve else "RESULT_OF_OTHERS_FAILED",
            )
        eve.stop()

    def test_an_inner_view_or_function_does_not_get_the_rights_of_the_outer_ones_owner(
        self, gateway: RunningGateway, ann: Any, bob: Any
    ) -> None:
        """Eve wrote what Ann uses, and changes it: it reads with Eve's rights still."""
        eve = gateway.spark(EVE)
        run(eve, f"CREATE CATALOG of_eve_{_RUN}", f"USE CATALOG of_eve_{_RUN}", "CREATE SCHEMA s", "USE SCHEMA s")
        run(
            eve,
            "CREATE VIEW inner_view AS SELECT 'harmless' AS word",
            "CREATE FUNCTION f() RETURNS STRING RETURN 'harmless'",
        )
        run(eve, f"GRANT USE CATALOG, USE SCHEMA, SELECT, EXECUTE ON CATALOG of_eve_{_RUN} TO `{ANN}`")
        run(ann, f"CREATE VIEW {C}.s.with_view AS SELECT word FROM of_eve_{_RUN}.s.inner_view")
        run(ann, f"CREATE VIEW {C}.s.with_function AS SELECT id, of_eve_{_RUN}.s.f() AS word FROM secrets")
        run(
            ann,
            f"GRANT SELECT ON VIEW {C}.s.with_view TO `{EVE}`",
            f"GRANT SELECT ON VIEW {C}.s.with_function TO `{EVE}`",
        )
        assert rows(eve.table(f"{C}.s.with_view")) == [("harmless",)]
        assert rows(eve.table(f"{C}.s.with_function")) == [(1, "harmless"), (2, "harmless")]
        text = f"SELECT max(word) AS word FROM {C}.s.secrets"
        refused(lambda: run(eve, f"CREATE OR REPLACE VIEW inner_view AS {text}"), "NOT_FOUND")
        run(ann, f"GRANT SELECT ON TABLE {C}.s.secrets TO `{EVE}`")
        run(eve, f"CREATE OR REPLACE VIEW inner_view AS {text}")
        run(eve, f"CREATE OR REPLACE FUNCTION f() RETURNS STRING RETURN ({text})")
        assert rows(eve.table(f"{C}.s.with_view")) == [("y2",)]
        run(ann, f"REVOKE SELECT ON TABLE {C}.s.secrets FROM `{EVE}`")
        for name in ("with_view", "with_function"):
            refused(lambda name=name: eve.table(f"{C}.s.{name}").collect(), "RESULT_OF_OTHERS_FAILED", "NOT_FOUND")
        eve.stop()

    def test_nobody_gets_anothers_rights_by_giving_a_view_away(self, bob: Any) -> None:
        run(bob, "CREATE VIEW gift AS SELECT 1 AS a")
        refused(lambda: run(bob, f"ALTER VIEW gift SET OWNER TO `{ANN}`"), "reads with the rights of its owner")
