"""Notebooks from one format into the other and back, without loss; and as a page."""

import json
from datetime import UTC, datetime

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.kernel.errors import InvalidArgument
from millpond.workspace.domain import Kept, Object, ObjectType, path_of
from millpond.workspace.formats import Format, incoming, outgoing
from millpond.workspace.notebooks import Cell, Language, Notebook, from_jupyter, from_source, to_jupyter, to_source
from millpond.workspace.rendering import to_html

SOURCE = """# Databricks notebook source
# MAGIC %md
# MAGIC # Churn
# MAGIC
# MAGIC Weekly.

# COMMAND ----------

# DBTITLE 1,Load
df = spark.table("main.ml.churn")

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT 1

# COMMAND ----------

for i in range(2):

    print(i)
"""


def test_a_source_file_is_cells_and_comes_back_as_it_was() -> None:
    notebook = from_source(SOURCE, Language.PYTHON)
    assert notebook.cells == (
        Cell(source="# Churn\n\nWeekly.", is_markdown=True),
        Cell(source='df = spark.table("main.ml.churn")', title="Load"),
        Cell(source="%sql\nSELECT 1"),
        Cell(source="for i in range(2):\n\n    print(i)"),
    )
    assert to_source(notebook) == SOURCE
    assert from_source(SOURCE.replace("\n", "\r\n"), Language.PYTHON) == notebook


def test_jupyter_notebooks_are_valid_and_the_same_cells() -> None:
    notebook = from_source(SOURCE, Language.PYTHON)
    told = to_jupyter(notebook)
    nbformat.validate(told)
    assert from_jupyter(json.dumps(told).encode()) == notebook


def test_a_sql_notebook_has_comments_of_its_language() -> None:
    text = "-- Databricks notebook source\nSELECT 1\n\n-- COMMAND ----------\n\n-- MAGIC %python\n-- MAGIC print(1)\n"
    notebook = from_source(text, Language.SQL)
    assert [cell.source for cell in notebook.cells] == ["SELECT 1", "%python\nprint(1)"]
    assert to_source(notebook) == text


_lines = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), min_size=1
)
_code = st.lists(_lines, min_size=1).map("\n".join).filter(lambda text: text.strip() and text == text.strip())


@given(st.lists(_code, min_size=1), st.sampled_from(list(Language)))
def test_any_code_survives_both_formats(codes: list[str], language: Language) -> None:
    magic = ("%", "!")
    codes = [code for code in codes if not code.startswith(magic) and "MAGIC" not in code and "DBTITLE" not in code]
    codes = [code for code in codes if "COMMAND ---" not in code and "notebook source" not in code]
    notebook = Notebook(language=language, cells=tuple(Cell(source=code) for code in codes))
    assert from_source(to_source(notebook), language) == notebook
    assert from_jupyter(json.dumps(to_jupyter(notebook)).encode()) == notebook


@pytest.mark.parametrize(
    "data",
    [b"[]", b"{", b'{"nbformat": 3}', b'{"nbformat": 4, "cells": [{}]}', b'{"nbformat": 4, "cells": 1}', b"[" * 9999,
     b'{"nbformat": 4, "cells": [], "metadata": {"language_info": {"name": "cobol"}}}'],
)  # fmt: skip
def test_what_is_no_notebook_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        from_jupyter(data)


def test_odd_outputs_and_halves_of_characters_do_not_keep_a_notebook_from_being_shown() -> None:
    cell = {"cell_type": "code", "source": "\ud800", "outputs": ["x", {"output_type": "error", "traceback": 3},
            {"output_type": "display_data", "data": 7}, {"output_type": "stream", "text": {"a": 1}}]}  # fmt: skip
    notebook = from_jupyter(json.dumps({"nbformat": 4, "cells": [cell]}).encode())
    assert "<pre" in to_html(notebook, "odd")
    now = datetime.now(UTC)
    found = Object(id=1, path=path_of("/Shared/a"), type=ObjectType.NOTEBOOK, owner="a", language=Language.PYTHON,
                   kept=Kept.JUPYTER, created_at=now, modified_at=now)  # fmt: skip
    for format in (Format.HTML, Format.SOURCE, Format.JUPYTER):
        assert outgoing(found, json.dumps({"nbformat": 4, "cells": [cell]}).encode(), format).data


def test_auto_takes_notebooks_for_notebooks_without_their_extension_and_all_else_for_files() -> None:
    def looked(name: str, data: bytes) -> tuple[str, str]:
        found = incoming(path_of(f"/Shared/{name}"), data, Format.AUTO, None)
        return found.type.value, str(found.path)

    assert looked("a.py", SOURCE.encode()) == ("NOTEBOOK", "/Shared/a")
    assert looked("a.py", b"print(1)") == ("FILE", "/Shared/a.py")
    assert looked("a.ipynb", json.dumps(to_jupyter(from_source(SOURCE, Language.PYTHON))).encode())[0] == "NOTEBOOK"
    assert looked(".py", SOURCE.encode()) == ("FILE", "/Shared/.py")
    assert looked("data.csv", b"\xff") == ("FILE", "/Shared/data.csv")


@pytest.mark.parametrize("text", ["a", "", "/a/../b", "/./a", "/a\x00b", "/a\nb", "/" + "é" * 1200, "/a" * 70])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        path_of(text)


def test_a_page_shows_sources_as_text_and_keeps_html_of_outputs_in_a_frame() -> None:
    outputs = (
        {"output_type": "stream", "name": "stdout", "text": "<b>out</b>"},
        {"output_type": "display_data", "data": {"text/html": "<script>steal()</script>"}, "metadata": {}},
        {"output_type": "display_data", "data": {"image/png": 'x" onload="steal()'}, "metadata": {}},
        {"output_type": "error", "traceback": ["\x1b[31mValueError\x1b[0m"]},
    )
    cells = (
        Cell(source="<script>steal()</script>", outputs=outputs),
        Cell(source="<script>1</script>", is_markdown=True),
    )
    page = to_html(Notebook(language=Language.PYTHON, cells=cells), "a <b>")
    assert "<script>" not in page
    assert 'onload="' not in page
    assert 'sandbox="allow-scripts" srcdoc="&lt;style&gt;' in page
    assert '&lt;script&gt;steal()&lt;/script&gt;"></iframe>' in page
    assert "&lt;b&gt;out&lt;/b&gt;" in page
    assert '<pre class="error">ValueError</pre>' in page
