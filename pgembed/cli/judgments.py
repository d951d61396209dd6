"""Judgments: load from files, list, export."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pgembed.cli.common import (
    Json,
    Url,
    connected,
    console,
    print_json,
    print_table,
    printable,
    progress_bar,
)
from pgembed.errors import InputError
from pgembed.model import Judgment

app = typer.Typer(no_args_is_help=True, help="Which rows answer which queries, in files and here.")

Collection = Annotated[str, typer.Argument(help="Name of the collection.")]


class Format(StrEnum):
    """Layouts of files that are read."""

    beir = "beir"
    trec = "trec"


@app.command()
def load(  # noqa: PLR0913 - one option a property of the files
    collection: Collection,
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="beir: folders with queries.jsonl and qrels/SPLIT.tsv;"
            " trec: the qrels, then the queries (id, tab, text; or .jsonl)."
        ),
    ],
    format: Annotated[Format, typer.Option(help="Layout of the files.")] = Format.beir,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, dev or test. Default: for beir those that are there, for trec test."
        ),
    ] = None,
    qrels: Annotated[
        str | None,
        typer.Option(help="beir: name of the split's file in qrels, without .tsv, if another."),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(help="Domain of the queries. Default: metadata.domain of each, or none."),
    ] = None,
    key_format: Annotated[
        str | None,
        typer.Option(
            help="How an id in the files becomes a key: {} stands for it,"
            ' as in doc-{}, or ["set", "{}"] for a key of two columns.'
        ),
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Load judgments from files; those of the same query and key are replaced.

    Every line is checked before anything is written, so a file with an error changes nothing.
    Judgments of keys that no embedded row has are counted and kept: they count when it is embedded.

    Example: pgembed judgments load papers data/scifact --domain claims
    """
    from pgembed.judgment_store import load_judgments

    with progress_bar("Read", quiet=json) as bar, connected(url) as connection:
        task = bar.task_ids[0]
        judgments = _read(paths, format, split, qrels, domain, key_format)
        bar.update(task, description="Load", total=len(judgments))
        loaded = load_judgments(
            connection,
            collection,
            judgments,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if json:
        print_json(loaded)
        return
    twice = loaded.read - loaded.judgments
    again = f" ({twice} more lines judge the same query and key: the last counts)" if twice else ""
    console.print(
        f"{loaded.judgments} judgments of {loaded.queries} queries are in {collection}{again}."
    )
    if loaded.unknown:
        named = ", ".join(printable(key) for key in loaded.unknown_keys)
        console.print(
            f"{loaded.unknown} keys are those of no embedded row, for instance {named}."
            " Their judgments are kept, and count when such a row is embedded; if all are unknown,"
            " --key-format may help.",
            style="yellow",
        )


@app.command("list")
def list_(collection: Collection, url: Url = None, json: Json = False) -> None:
    """Count judgments by domain and split."""
    from pgembed.judgment_store import count_judgments

    with connected(url) as connection:
        counts = count_judgments(connection, collection)
    if json:
        print_json(counts)
        return
    print_table(
        ("domain", "split", "queries", "judgments", "relevant"),
        [(c.domain, c.split, c.queries, c.judgments, c.relevant) for c in counts],
    )


@app.command()
def export(
    collection: Collection,
    folder: Annotated[Path, typer.Argument(help="Folder to write, new or without such files.")],
    url: Url = None,
    json: Json = False,
) -> None:
    """Write judgments in BEIR's layout: queries.jsonl and qrels/SPLIT.tsv.

    Loading the folder again gives the same judgments. Texts of rows are not written.

    Example: pgembed judgments export papers judged/papers
    """
    from pgembed.judgment_files import write_beir
    from pgembed.judgment_store import stored_judgments

    with connected(url) as connection:
        judgments = stored_judgments(connection, collection)
    if not judgments:
        raise InputError(f"collection {collection!r} has no judgments")
    written = write_beir(folder, judgments)
    if json:
        print_json({"judgments": len(judgments), "files": [str(path) for path in written]})
    else:
        files = ", ".join(printable(str(path)) for path in written)
        console.print(f"{len(judgments)} judgments are in {files}.")


def _read(
    paths: Sequence[Path],
    format: Format,
    split: str | None,
    qrels: str | None,
    domain: str | None,
    key_format: str | None,
) -> list[Judgment]:
    from pgembed.judgment_files import read_beir, read_trec

    if format is Format.beir:
        return [
            judgment
            for folder in paths
            for judgment in read_beir(
                folder, split=split, qrels=qrels, domain=domain, key_format=key_format
            )
        ]
    if len(paths) != 2 or qrels is not None:
        raise InputError(
            "--format trec takes two files, the qrels and the queries, and no --qrels",
            hint="pgembed judgments load papers qrels.txt topics.tsv --format trec",
        )
    return read_trec(
        paths[0], paths[1], split=split or "test", domain=domain, key_format=key_format
    )
