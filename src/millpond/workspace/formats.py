"""What comes in is looked at, and what goes out is put, in the formats of the Workspace API. Pure."""

import json
from dataclasses import dataclass
from enum import StrEnum

from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.workspace.domain import Kept, Object, ObjectType, Path
from millpond.workspace.notebooks import (
    EXTENSIONS,
    Language,
    Notebook,
    from_jupyter,
    from_source,
    source_language,
    to_jupyter,
    to_source,
    with_header,
)
from millpond.workspace.rendering import to_html

JUPYTER_EXTENSION = ".ipynb"
_NOT_HERE = ("DBC", "R_MARKDOWN")


class Format(StrEnum):
    """How content is sent."""

    SOURCE = "SOURCE"
    JUPYTER = "JUPYTER"
    HTML = "HTML"
    AUTO = "AUTO"
    RAW = "RAW"


def format_named(name: str | None) -> Format:
    """The format with a name; SOURCE without. Raises NotImplementedHere, InvalidArgument."""
    if name in _NOT_HERE:
        raise NotImplementedHere(f"Format {name} is not implemented; use SOURCE, JUPYTER or AUTO.")
    try:
        return Format(name or Format.SOURCE)
    except ValueError as error:
        raise InvalidArgument(f"There is no format '{name!s:.40}'; one of {', '.join(Format)}.") from error


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """What is to be kept at a path."""

    path: Path
    type: ObjectType
    data: bytes
    language: Language | None = None
    kept: Kept = Kept.RAW


def incoming(path: Path, data: bytes, format: Format, language: Language | None) -> Incoming:
    """What content in a format is. Raises InvalidArgument for content of another format, NotImplementedHere."""
    match format:
        case Format.SOURCE:
            known = language or EXTENSIONS.get(_extension(path)) or source_language(_text(data, path))
            if known is None:
                raise InvalidArgument(f"Say the language of notebook '{path}', or send it with format AUTO.")
            return _source(path, data, known)
        case Format.JUPYTER:
            return _jupyter(path, data)
        case Format.AUTO:
            return _looked_at(path, data)
        case Format.RAW:
            return Incoming(path=path, type=ObjectType.FILE, data=data)
        case Format.HTML:
            raise NotImplementedHere("HTML is not imported here; send the notebook as SOURCE or JUPYTER.")


def _looked_at(path: Path, data: bytes) -> Incoming:
    """A notebook, without its extension, where the content says so; else a file."""
    extension = _extension(path)
    bare = path.named(path.name.removesuffix(extension)) if extension else path
    if extension == JUPYTER_EXTENSION:
        return _jupyter(bare, data)
    language = EXTENSIONS.get(extension)
    if language is not None and source_language(data[:200].decode(errors="replace")) is not None:
        return _source(bare, data, language)
    return Incoming(path=path, type=ObjectType.FILE, data=data)


def _source(path: Path, data: bytes, language: Language) -> Incoming:
    text = with_header(_text(data, path), language)
    from_source(text, language)
    return Incoming(
        path=path, type=ObjectType.NOTEBOOK, data=text.encode(), language=language, kept=Kept.SOURCE
    )  # fmt: skip


def _jupyter(path: Path, data: bytes) -> Incoming:
    language = from_jupyter(data).language
    return Incoming(path=path, type=ObjectType.NOTEBOOK, data=data, language=language, kept=Kept.JUPYTER)


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"The source of notebook '{path}' is not UTF-8.") from error


def _extension(path: Path) -> str:
    stem, dot, end = path.name.rpartition(".")
    return dot + end if stem else ""


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """Content, and what files with it end in, without a dot."""

    data: bytes
    file_type: str


def outgoing(found: Object, data: bytes, format: Format) -> Outgoing:
    """What an object holds, in a format. Raises InvalidArgument for a file in a format of notebooks."""
    if found.type is ObjectType.FILE:
        if format in (Format.JUPYTER, Format.HTML):
            raise InvalidArgument(f"'{found.path}' is a file, and no notebook: export it as SOURCE, AUTO or RAW.")
        return Outgoing(data=data, file_type=_extension(found.path).removeprefix("."))
    if format in (Format.AUTO, Format.RAW):
        format = Format(found.kept)
    if format is Format.HTML:
        return Outgoing(data=_bytes(to_html(notebook_of(found, data), found.path.name)), file_type="html")
    if format is Format.JUPYTER:
        as_kept = found.kept is Kept.JUPYTER
        told = data if as_kept else json.dumps(to_jupyter(notebook_of(found, data)), indent=1).encode()
        return Outgoing(data=told, file_type="ipynb")
    told = data if found.kept is Kept.SOURCE else _bytes(to_source(notebook_of(found, data)))
    return Outgoing(data=told, file_type=source_extension(found))


def _bytes(text: str) -> bytes:
    """As UTF-8; JSON can say halves of characters, which that has not."""
    return text.encode("utf-8", "replace")


def source_extension(found: Object) -> str:
    """What source files of a notebook's language end in."""
    return next(end for end, language in EXTENSIONS.items() if language is found.language).removeprefix(".")


def notebook_of(found: Object, data: bytes) -> Notebook:
    """The cells of a notebook."""
    if found.kept is Kept.JUPYTER:
        return from_jupyter(data)
    assert found.language is not None
    return from_source(data.decode(), found.language)
