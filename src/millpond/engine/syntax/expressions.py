"""SQL expressions that are stored in a table (CHECK, GENERATED): read by Spark's rules and by delta-rs' alike.

delta-rs matches column names exactly (bare ones in lower case) and takes "x" for a column; Spark ignores case and takes
it for a string. What is stored therefore has the columns' exact names, in backticks unless written bare, and
single-quoted strings, and means the same to both.
"""

from collections.abc import Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from millpond.engine.errors import column_not_found
from millpond.engine.syntax.cursor import Cursor, Word

_KEYWORDS = frozenset(
    ("NULL", "TRUE", "FALSE", "AND", "OR", "NOT", "IS", "IN", "LIKE", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "END")
)


def columns_in(expression: str) -> set[str] | None:
    """Lower-case names of the columns that an SQL expression reads; None if it cannot be read."""
    try:
        tree = sqlglot.parse_one(expression, dialect="databricks")
    except SqlglotError:
        return None
    return {column.parts[0].name.lower() for column in tree.find_all(exp.Column)}


def canonical(expression: str, columns: Sequence[str]) -> str:
    """The expression with each column's name as the schema writes it.

    Raises: `AnalysisError` UNRESOLVED_COLUMN for a column that is none of `columns`.
    """
    read = columns_in(expression)
    by_lower = {column.lower(): column for column in columns}
    for name in sorted(read or ()):
        if name not in by_lower:
            raise column_not_found(name, tuple(columns))
    cursor = Cursor(expression)
    pieces: list[str] = []
    end = -1
    before: Word | None = None
    while (word := cursor.word()) is not None:
        cursor.take()
        if word.start > end:
            gap = " " if pieces and word.start > end + 1 else ""
            pieces.append(gap + _written(word, before, cursor.word(), expression, by_lower, read or set()))
            end = word.end
        before = word
    return "".join(pieces)


def _written(
    word: Word, before: Word | None, after: Word | None, source: str, columns: dict[str, str], read: set[str]
) -> str:
    text = source[word.start : word.end + 1]
    if word.is_string:
        plain = text.startswith('"') and "'" not in word.text and "\\" not in word.text
        return f"'{word.text}'" if plain else text
    keyword = word.is_bare and word.text.upper() in _KEYWORDS
    name = columns.get(word.text.lower()) if word.is_name and not keyword and word.text.lower() in read else None
    if name is None or _is_mark(before, ".") or _is_mark(after, "("):
        return text
    plain = name.replace("_", "x").isalnum() and name.isascii() and name == name.lower() and not name[0].isdigit()
    return name if plain and word.is_bare else "`" + name.replace("`", "``") + "`"


def _is_mark(word: Word | None, mark: str) -> bool:
    return word is not None and not word.is_name and not word.is_string and word.text == mark
