"""Judgments in files: the folders of BEIR and the qrels of TREC, read and written."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pgembed.errors import InputError
from pgembed.model import Judgment
from pgembed.query_files import KeyOf, Queries, key_maker, numbered_lines, read_queries

SPLITS = ("train", "dev", "test")

LARGEST_GRADE = 2**31 - 1
"""What a PostgreSQL integer holds."""

BEIR_HEADER = ["query-id", "corpus-id", "score"]


@dataclass(frozen=True, slots=True)
class Line:
    """One judgment as it stands in a file."""

    place: str
    """File and line number, for messages."""
    query: str
    """Id of the query."""
    document: str
    grade: int


def read_beir(
    folder: Path,
    *,
    split: str | None = None,
    qrels: str | None = None,
    domain: str | None = None,
    key_format: str | None = None,
) -> list[Judgment]:
    """Read ``queries.jsonl`` and ``qrels/SPLIT.tsv`` of a folder in BEIR's layout.

    Args:
        folder: where both are.
        split: only this one; None reads those of train, dev and test that are there.
        qrels: name of the split's file in ``qrels``, without ``.tsv``, where it has another.
        domain: of all queries; None takes ``metadata.domain`` of each query, where it has one.
        key_format: see ``key_maker``.

    Returns:
        Judgments by split, as many as lines; the same query and key may come several times.

    Raises:
        InputError: a file is missing or a line is malformed; the message names file and line.
    """
    key_of = key_maker(key_format)
    queries = read_queries(folder / "queries.jsonl")
    judgments: list[Judgment] = []
    for name, path in _qrels_files(folder / "qrels", split, qrels):
        lines = _once(_beir_lines(path))
        judgments += _judgments(lines, queries, name, domain, key_of)
    return judgments


def read_trec(
    qrels: Path,
    topics: Path,
    *,
    split: str = "test",
    domain: str | None = None,
    key_format: str | None = None,
) -> list[Judgment]:
    """Read TREC's qrels, ``query 0 document grade`` a line, with the texts of the queries.

    Args:
        qrels: the judgments.
        topics: the queries: ``id<tab>text`` a line, or json lines.
        split: what the judgments are for.
        domain: of all queries; None takes ``metadata.domain`` of each query, where it has one.
        key_format: see ``key_maker``.

    Raises:
        InputError: a file is missing or a line is malformed; the message names file and line.
    """
    _check_split(split)
    queries = read_queries(topics)
    lines = _once(_trec_lines(qrels))
    return _judgments(lines, queries, split, domain, key_maker(key_format))


def write_beir(folder: Path, judgments: Sequence[Judgment]) -> list[Path]:
    """Write judgments in BEIR's layout, in a form that ``read_beir`` gives back.

    A query's id is a hash of its domain and text, so that an export is the same every time; the
    domain stands in ``metadata``. Keys that hold a quote, a tab or a line end are quoted as csv
    quotes them, which is how BEIR reads them.

    Returns:
        The files written: ``queries.jsonl``, and ``qrels/SPLIT.tsv`` for each split.

    Raises:
        InputError: the folder holds such files already, or cannot be written.
    """
    files = {folder / "queries.jsonl": _queries_text(judgments)}
    for split in SPLITS:
        if found := [judgment for judgment in judgments if judgment.split == split]:
            files[folder / "qrels" / f"{split}.tsv"] = _qrels_text(found)
    taken = [*folder.glob("queries.jsonl"), *folder.glob("qrels/*.tsv")]
    if taken:
        raise InputError(f"{taken[0]} exists already", hint="Name a folder that is new or empty.")
    try:
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from error
    return list(files)


def _qrels_files(folder: Path, split: str | None, qrels: str | None) -> Iterator[tuple[str, Path]]:
    if split is not None:
        _check_split(split)
        yield split, folder / f"{qrels or split}.tsv"
        return
    if qrels is not None:
        raise InputError(f"of which split are the qrels {qrels!r}?", hint="Name the split, too.")
    found = [(name, folder / f"{name}.tsv") for name in SPLITS]
    found = [(name, path) for name, path in found if path.is_file()]
    if not found:
        others = ", ".join(sorted(path.stem for path in folder.glob("*.tsv")))
        raise InputError(
            f"{folder} has no {', '.join(f'{name}.tsv' for name in SPLITS)}",
            hint=f"Name one of its files and a split: {others}." if others else None,
        )
    yield from found


def _beir_lines(path: Path) -> Iterator[Line]:
    """Lines as BEIR reads them: csv with tabs, where only what needs quotes has them."""
    rows = csv.reader((line for _, line in numbered_lines(path)), delimiter="\t", strict=True)
    try:
        for row in rows:
            place = f"{path}:{rows.line_num}"
            is_header = rows.line_num == 1 and [each.strip() for each in row] == BEIR_HEADER
            if not row or is_header:
                continue
            if len(row) != 3:
                raise InputError(f"{place}: needs query-id, corpus-id and score, not {row!r:.200}")
            yield Line(place, row[0], row[1], _grade(place, row[2]))
    except csv.Error as error:
        raise InputError(f"{path}:{rows.line_num}: {error}") from error


def _trec_lines(path: Path) -> Iterator[Line]:
    for place, line in numbered_lines(path):
        parts = line.split()
        if parts and len(parts) != 4:
            raise InputError(f"{place}: needs query, 0, document and grade, not {line!r:.200}")
        if parts:
            yield Line(place, parts[0], parts[2], _grade(place, parts[3]))


def _grade(place: str, text: str) -> int:
    try:
        grade = int(text)
    except ValueError:
        grade = LARGEST_GRADE + 1
    if abs(grade) > LARGEST_GRADE:
        raise InputError(f"{place}: the grade {text!r:.50} is no integer of 32 bits")
    return grade


def _once(lines: Iterator[Line]) -> Iterator[Line]:
    """The lines, with an error where one contradicts another."""
    known: dict[tuple[str, str], Line] = {}
    for line in lines:
        before = known.setdefault((line.query, line.document), line)
        if before.grade != line.grade:
            raise InputError(
                f"{line.place}: document {line.document!r:.100} of query {line.query!r:.100} has"
                f" grade {line.grade} here and {before.grade} in {before.place}"
            )
        if before is line:
            yield line


def _judgments(
    lines: Iterator[Line], queries: Queries, split: str, domain: str | None, key_of: KeyOf
) -> list[Judgment]:
    found = []
    for line in lines:
        query = queries.get(line.query)
        if query is None:
            raise InputError(
                f"{line.place}: query {line.query!r:.100} is not in the file of queries"
            )
        query = query if domain is None else replace(query, domain=domain)
        key = key_of(line.document)
        found.append(Judgment(query.text, key, line.grade, split, query.domain))
    return found


def _queries_text(judgments: Sequence[Judgment]) -> str:
    ids = {(each.domain, each.query): _query_id(each) for each in judgments}
    rows: list[dict[str, object]] = [
        {"_id": identity, "text": text, "metadata": {"domain": domain} if domain else {}}
        for (domain, text), identity in sorted(ids.items())
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _qrels_text(judgments: Sequence[Judgment]) -> str:
    rows = [BEIR_HEADER, *([_query_id(j), _quoted(j.key), str(j.grade)] for j in judgments)]
    return "".join("\t".join(row) + "\n" for row in rows)


def _quoted(key: str) -> str:
    """A key as csv quotes it; the module csv would leave a carriage return as it is."""
    return '"' + key.replace('"', '""') + '"' if set(key) & set('"\t\r\n') else key


def _query_id(judgment: Judgment) -> str:
    text = f"{judgment.domain}\0{judgment.query}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise InputError(
            f"split {split!r} is unknown",
            hint=f"Splits are {', '.join(SPLITS)}; another file of qrels is named by itself.",
        )
