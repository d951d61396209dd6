"""What files of judgments are made of: lines, queries, and ids of documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pgembed.errors import InputError

ID_FIELDS = ("_id", "id", "qid", "query_id")
TEXT_FIELDS = ("text", "query", "title")
"""Names under which files of queries have id and text; the first that is there counts."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a file."""

    text: str
    domain: str = ""


Queries = dict[str, Query]
"""By id."""

KeyOf = Callable[[str], str]
"""From a document's id to the key of a row."""


def read_queries(path: Path) -> Queries:
    """Texts of queries by id, of json lines (``.jsonl``, ``.json``) or of ``id<tab>text`` lines.

    Raises:
        InputError: a line is malformed, its text is blank, or an id has two texts.
    """
    is_json = path.suffix in (".jsonl", ".json")
    queries: Queries = {}
    for place, line in numbered_lines(path):
        if not line.strip():
            continue
        identity, query = _json_query(place, line) if is_json else _tsv_query(place, line)
        if not query.text.strip():
            raise InputError(f"{place}: the text of query {identity!r:.100} is blank")
        if queries.setdefault(identity, query) != query:
            raise InputError(f"{place}: query {identity!r:.100} was there before, another one")
    return queries


def key_maker(key_format: str | None) -> KeyOf:
    """How a document's id in a file becomes the key of a row.

    Args:
        key_format: None leaves ids as they are; a text puts them for its ``{}``; a json array,
            for a key of several columns, has the text ``"{}"`` where they go: ``["set", "{}"]``.

    Raises:
        InputError: there is not exactly one ``{}``, or the array is no array of texts.
    """
    if key_format is None:
        return str
    if not key_format.lstrip().startswith("["):
        before, *after = key_format.split("{}")
        if len(after) != 1:
            raise InputError(f'the key format {key_format!r} needs one "{{}}" for the id')
        return lambda document: f"{before}{document}{after[0]}"
    try:
        parts = json.loads(key_format)
    except ValueError as error:
        raise InputError(f"the key format {key_format!r} is no json array: {error}") from error
    if not all(isinstance(part, str) for part in parts) or parts.count("{}") != 1:
        raise InputError(
            f"the key format {key_format!r} is no array of texts with one that is {{}}",
            hint='For example ["papers", "{}"].',
        )
    return lambda document: json.dumps(
        [document if part == "{}" else part for part in parts], ensure_ascii=False
    )


def _json_query(place: str, line: str) -> tuple[str, Query]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not a line of json: {error}") from error
    if not isinstance(row, dict):
        raise InputError(f"{place}: a query is a json object, not {line!r:.100}")
    identity = next((row[name] for name in ID_FIELDS if name in row), None)
    text = next((row[name] for name in TEXT_FIELDS if name in row), None)
    # Ids are numbers in some files, and texts in the qrels.
    identity = str(identity) if type(identity) is int else identity
    if not isinstance(identity, str) or not isinstance(text, str):
        raise InputError(
            f"{place}: a query has an id ({', '.join(ID_FIELDS)}) and a text"
            f" ({', '.join(TEXT_FIELDS)}), not {line!r:.100}"
        )
    metadata = row.get("metadata")
    domain = metadata.get("domain") if isinstance(metadata, dict) else None
    domain = domain if isinstance(domain, str) else ""
    for each in (identity, text, domain):
        _check_text(place, each)
    return identity, Query(text, domain)


def _tsv_query(place: str, line: str) -> tuple[str, Query]:
    identity, tab, text = line.partition("\t")
    if not tab or not identity.strip():
        raise InputError(f"{place}: a query is an id, a tab and a text, not {line!r:.100}")
    return identity.strip(), Query(text.rstrip("\r\n"))


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line of a text file with its end, after its place (``file:number``) for messages.

    Raises:
        InputError: the file cannot be read, or a line is not UTF-8, or holds what PostgreSQL
            cannot store.
    """
    with _opened(path) as file:
        # By bytes: a text may hold U+2028, which ends no line of these formats.
        for number, data in enumerate(file, start=1):
            place = f"{path}:{number}"
            try:
                line = data.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{place}: not UTF-8: {error}") from error
            _check_text(place, line)
            yield place, line


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _check_text(place: str, text: str) -> None:
    if "\0" in text:
        raise InputError(f"{place}: holds a NUL character, which PostgreSQL cannot store")
    if any("\ud800" <= each <= "\udfff" for each in text):
        raise InputError(f"{place}: holds a lone surrogate, which is no character")
