"""A cursor over the tokens of one SQL statement: the hand-written grammars ask it for keywords, names and literals.

The tokenizer is sqlglot's for Databricks without its keyword table, so each word is one token, `>>` is two, and words
such as SHOW do not swallow the rest of the line. Comments vanish; quoted identifiers and strings arrive unescaped.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, NoReturn, TypeVar

from sqlglot.dialects.databricks import Databricks
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from millpond.engine.errors import SparkError, syntax_error

T = TypeVar("T")

MAX_NESTING = 100


class _PlainTokenizer(Databricks.Tokenizer):
    """Knows quotes, comments and punctuation, and no keyword."""

    KEYWORDS: ClassVar[dict[str, TokenType]] = {}
    COMMANDS: ClassVar[set[TokenType]] = set()


_WORDS = frozenset({TokenType.VAR, TokenType.IDENTIFIER})
_STRINGS = frozenset({TokenType.STRING, TokenType.RAW_STRING, TokenType.HEREDOC_STRING})


_BODY = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`|--[^\n]*|/\*.*?\*/|\$\$(?P<body>.*?)\$\$""", re.DOTALL
)
"""Quotes and comments, in which nothing begins, or a text between `$$` and `$$`."""


def _bodies(sql: str) -> Iterator[tuple[int, str]]:
    """Where texts between `$$` and `$$` begin, and what they are."""
    for found in _BODY.finditer(sql):
        if found["body"] is not None:
            yield found.start(), found["body"]


def _without(sql: str, bodies: dict[int, str]) -> str:
    """The text with strings of the same length in the place of bodies, which the tokenizer does not know."""
    for start, body in bodies.items():
        end = start + len(body) + 4
        sql = f"{sql[:start]}'{'x' * (len(body) + 2)}'{sql[end:]}"
    return sql


@dataclass(frozen=True)
class Word:
    """A token as the grammars see it."""

    text: str
    kind: TokenType
    start: int
    end: int

    @property
    def is_bare(self) -> bool:
        """An unquoted word: the only form in which a keyword may stand."""
        return self.kind == TokenType.VAR

    @property
    def is_name(self) -> bool:
        """A word or a backticked identifier."""
        return self.kind in _WORDS

    @property
    def is_string(self) -> bool:
        return self.kind in _STRINGS


class Cursor:
    """Reads the tokens of `sql` from left to right; every failure is a `ParseError` at the offending token."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        bodies = dict(_bodies(sql)) if "$$" in sql else {}
        try:
            tokens: list[Token] = _PlainTokenizer(dialect=Databricks()).tokenize(_without(sql, bodies))
        except TokenError as error:
            raise syntax_error(sql, len(sql), "", f"unterminated quote or comment ({error})") from error
        self._tokens = [
            Word(bodies.get(token.start, token.text), token.token_type, token.start, token.end) for token in tokens
        ]
        self._at = 0
        self._depth = 0

    # -- looking ------------------------------------------------------------------------------------------------

    def word(self, ahead: int = 0) -> Word | None:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else None

    def words(self) -> tuple[Word, ...]:
        """All tokens of the text."""
        return tuple(self._tokens)

    def sees(self, *keywords: str) -> bool:
        """Whether the next tokens are these keywords or punctuation marks, whatever their case."""
        for ahead, keyword in enumerate(keywords):
            word = self.word(ahead)
            if word is None or word.text.upper() != keyword:
                return False
            if keyword[0].isalpha() and not word.is_bare:
                return False
            if not keyword[0].isalpha() and word.kind in _STRINGS | _WORDS:
                return False
        return True

    def sees_any(self, *keywords: str) -> bool:
        return any(self.sees(keyword) for keyword in keywords)

    def sees_string(self) -> bool:
        word = self.word()
        return word is not None and word.kind in _STRINGS

    def names_follow(self) -> bool:
        """Whether something comes after the next word, so that this word is a keyword here and not itself the name."""
        following = self.word(1)
        return following is not None and following.kind not in (TokenType.DOT, TokenType.SEMICOLON)

    def at_end(self) -> bool:
        """At the end of the statement; semicolons with nothing after them do not count."""
        return all(word.kind == TokenType.SEMICOLON for word in self._tokens[self._at :])

    @property
    def position(self) -> int:
        return self._at

    def rewind(self, position: int) -> None:
        self._at = position

    # -- taking -------------------------------------------------------------------------------------------------

    def accept(self, *keywords: str) -> bool:
        """Take these keywords if they come next, all or none."""
        if not self.sees(*keywords):
            return False
        self._at += len(keywords)
        return True

    def accept_any(self, *keywords: str) -> str | None:
        return next((keyword for keyword in keywords if self.accept(keyword)), None)

    def expect(self, *keywords: str) -> None:
        for keyword in keywords:
            if not self.accept(keyword):
                self.fail(f"expected {keyword}")

    def expect_any(self, *keywords: str) -> str:
        taken = self.accept_any(*keywords)
        if taken is None:
            self.fail(f"expected one of {', '.join(keywords)}")
        return taken

    def expect_end(self) -> None:
        if not self.at_end():
            self.fail("extra input")

    def take(self) -> Word:
        word = self.word()
        if word is None:
            self.fail()
        self._at += 1
        return word

    def identifier(self) -> str:
        """One part of a name, quoted or bare."""
        word = self.word()
        if word is None or word.kind not in _WORDS or not word.text:
            self.fail("expected a name")
        if word.is_bare and not word.text.replace("_", "x").isalnum():
            self.fail("a name with such characters must be in backticks")
        self._at += 1
        return word.text

    def name(self, *, at_most: int = 3) -> tuple[str, ...]:
        """A name of one or more parts, `a.b.c`, or `IDENTIFIER('a.b.c')`."""
        if self.sees("IDENTIFIER", "("):
            return self._identifier_clause(at_most)
        start = self._at
        parts = [self.identifier()]
        while self.accept("."):
            parts.append(self.identifier())
        if len(parts) > at_most:
            self._at = start
            self.fail(f"a name here has at most {at_most} parts")
        return tuple(parts)

    def _identifier_clause(self, at_most: int) -> tuple[str, ...]:
        self.expect("IDENTIFIER", "(")
        inner = Cursor(self.string())
        parts = inner.name(at_most=at_most)
        inner.expect_end()
        self.expect(")")
        return parts

    def string(self) -> str:
        """A string literal; adjacent literals are one, as in Spark."""
        if not self.sees_string():
            self.fail("expected a string literal")
        texts = []
        while self.sees_string():
            texts.append(self.take().text)
        return "".join(texts)

    def integer(self) -> int:
        word = self.word()
        if word is None or word.kind != TokenType.NUMBER or not word.text.isdecimal():
            self.fail("expected a whole number")
        self._at += 1
        return int(word.text)

    def number(self) -> float:
        word = self.word()
        if word is None or word.kind != TokenType.NUMBER:
            self.fail("expected a number")
        self._at += 1
        return float(word.text)

    def in_parentheses(self, item: Callable[["Cursor"], T]) -> tuple[T, ...]:
        """`( item, item, ... )` with at least one item."""
        self.expect("(")
        items = self.comma_list(item)
        self.expect(")")
        return items

    def comma_list(self, item: Callable[["Cursor"], T]) -> tuple[T, ...]:
        items = [item(self)]
        while self.accept(","):
            items.append(item(self))
        return tuple(items)

    def parenthesised_text(self) -> str:
        """The source of a balanced `( ... )` without the outer parentheses: an expression that the engine reads."""
        self.expect("(")
        start = self._at
        depth = 1
        while depth:
            word = self.take()
            if word.kind == TokenType.L_PAREN:
                depth += 1
            elif word.kind == TokenType.R_PAREN:
                depth -= 1
        return self._source(start, self._at - 1)

    @contextmanager
    def nested(self) -> Iterator[None]:
        """One level deeper: a grammar that recurses says so, and hostile depth is a parse error, not a crash."""
        self._depth += 1
        if self._depth > MAX_NESTING:
            self.fail(f"nested deeper than {MAX_NESTING} levels")
        try:
            yield
        finally:
            self._depth -= 1

    def text_until(self, *keywords: str) -> str:
        """The source up to one of `keywords` or `,` or `)` outside parentheses, or the end of the statement.

        A keyword may be two words: `NOT NULL` stops where `NOT` alone does not.
        """
        start = self._at
        depth = 0
        while not self.at_end():
            if depth == 0 and any(self.sees(*stop.split()) for stop in (*keywords, ",", ")")):
                break
            word = self.take()
            depth += (word.kind == TokenType.L_PAREN) - (word.kind == TokenType.R_PAREN)
        return self._source(start, self._at)

    def _source(self, first: int, stop: int) -> str:
        """Source text of a token range: comments dropped, white space between tokens made one blank."""
        pieces: list[str] = []
        end = -1
        for token in self._tokens[first:stop]:
            if token.start <= end:
                continue
            if pieces and token.start > end + 1:
                pieces.append(" ")
            pieces.append(self.sql[token.start : token.end + 1])
            end = token.end
        if not pieces:
            self.fail("expected an expression")
        return "".join(pieces)

    # -- failing ------------------------------------------------------------------------------------------------

    def fail(self, hint: str = "") -> NoReturn:
        raise self.error(hint)

    def error(self, hint: str = "") -> SparkError:
        word = self.word()
        if word is None:
            return syntax_error(self.sql, len(self.sql), "", hint)
        return syntax_error(self.sql, word.start, self.sql[word.start : word.end + 1], hint)
