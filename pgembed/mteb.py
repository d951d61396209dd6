"""A search model for mteb: its retrieval tasks run in the database, by the SQL that users have.

mteb itself is only needed by who runs its tasks: ``pip install 'pgembed-router[mteb]'``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from psycopg import sql

from pgembed.collections import create_collection, drop_collection, list_collections
from pgembed.database import Connection, translated
from pgembed.errors import InputError
from pgembed.model import Mode
from pgembed.registry import open_registered, registered_encoder
from pgembed.searching import search
from pgembed.syncing import sync

SCHEMA = "pgembed_mteb"
"""Schema of the tables that hold the corpora."""

LONGEST_NAME = 56
"""Bytes of a collection's name."""

Row = Mapping[str, Any]
Progress = Callable[[str, int, int], None]


class Task(Protocol):
    """What is used of mteb's ``TaskMetadata``."""

    @property
    def name(self) -> str:
        """The task's name."""


class DatabaseSearch:
    """mteb's ``SearchProtocol`` (mteb 2) on collections of a database.

    Each corpus becomes a table in schema ``pgembed_mteb`` with a collection of its own. It stays
    when the task is done: the next run embeds only what changed, whatever its mode. ``drop``
    removes them all::

        model = pgembed.mteb.DatabaseSearch(connection, encoder="minilm", mode="soft")
        mteb.evaluate(model, mteb.get_tasks(["SciFact"]))

    Args:
        connection: in autocommit mode, used by nobody else meanwhile.
        encoder: a registered encoder.
        mode: ``soft``, ``hard``, ``base`` or an expert's name.
        hybrid: also rank by the words of the query.
        on_progress: called with what is done, and how many of how many.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        encoder: str = "minilm",
        mode: Mode = "soft",
        hybrid: bool = False,
        on_progress: Progress | None = None,
    ) -> None:
        self.connection = connection
        self.spec = registered_encoder(connection, encoder)
        self.mode = mode
        self.hybrid = hybrid
        self._report = on_progress or (lambda label, done, total: None)

    def index(
        self,
        corpus: Iterable[Row],
        *,
        task_metadata: Task,
        hf_split: str,
        hf_subset: str,
        **options: Any,
    ) -> None:
        """Bring table and collection of a task in step with its corpus, and embed what is new.

        Args:
            corpus: rows with ``id``, ``text`` and, if they have one, ``title``.
            task_metadata: the task.
            hf_split: split of the task; each has a corpus of its own.
            hf_subset: subset of the task, such as a language.
            **options: what else mteb says; nothing of it matters here.

        Raises:
            InputError: a document has no text, or the connection is in a transaction.
        """
        name = self.collection_name(task_metadata, hf_split, hf_subset)
        table = sql.Identifier(SCHEMA, name)
        with translated():
            self.connection.execute(
                sql.SQL(
                    "create schema if not exists {};"
                    " create table if not exists {} (id text primary key, title text, body text)"
                ).format(sql.Identifier(SCHEMA), table)
            )
            self._fill(table, corpus)
            if name not in {each.name for each in list_collections(self.connection)}:
                create_collection(
                    self.connection,
                    name,
                    source=table.as_string(self.connection),
                    content=["title", "body"],
                    encoder=self.spec.name,
                )
        sync(
            self.connection,
            name,
            on_progress=lambda done, total: self._report("index", done, total),
        )

    def search(
        self,
        queries: Iterable[Row],
        *,
        task_metadata: Task,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        top_ranked: Mapping[str, list[str]] | None = None,
        **options: Any,
    ) -> dict[str, dict[str, float]]:
        """Search the indexed corpus of a task with each query.

        Args:
            queries: rows with ``id``, ``text`` and, if they have one, ``instruction``, which is
                put after the text as mteb does.
            task_metadata: the task.
            hf_split: its split.
            hf_subset: its subset.
            top_k: documents wanted.
            top_ranked: for tasks that rank given documents anew: their ids by the query's.
            **options: what else mteb says.

        Returns:
            By the query's id, scores by the document's id.

        Raises:
            InputError: a query is no text, or a blank one.
            NotFoundError: the corpus was not indexed, or there is no such expert.
        """
        name = self.collection_name(task_metadata, hf_split, hf_subset)
        model = open_registered(self.connection, self.spec.name)
        found: dict[str, dict[str, float]] = {}
        rows = list(queries)
        for number, row in enumerate(rows, start=1):
            wanted = None if top_ranked is None else {"id": list(top_ranked[row["id"]])}
            hits = search(
                self.connection,
                name,
                _query_text(row),
                k=top_k,
                filter=wanted,
                mode=self.mode,
                hybrid=self.hybrid,
                encoder=model,
            )
            found[row["id"]] = {hit.key: hit.score for hit in hits}
            self._report("search", number, len(rows))
        return found

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb keeps results by (``ModelMeta``): each encoder and mode is a model.

        Raises:
            InputError: mteb is not installed.
        """
        try:
            from mteb.models.model_meta import ModelMeta
        except ImportError as error:
            raise InputError(
                "mteb is not installed", hint="pip install 'pgembed-router[mteb]'"
            ) from error
        way = f"{self.mode}-hybrid" if self.hybrid else self.mode
        return ModelMeta.create_empty(
            {
                "name": f"pgembed/{self.spec.name}-{way}",
                "revision": self.spec.fingerprint[:16],
                "embed_dim": self.spec.dimensions,
                "max_tokens": float(self.spec.max_tokens),
                "similarity_fn_name": "cosine",
            }
        )

    def collection_name(self, task: Task, split: str, subset: str) -> str:
        """The collection of a task: its name, shortened with a hash where it is too long."""
        name = f"{task.name} {subset} {split} {self.spec.name}"
        if len(name.encode()) <= LONGEST_NAME:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        return f"{name.encode()[: LONGEST_NAME - 13].decode(errors='ignore')} {digest}"

    def drop(self) -> None:
        """Remove every table in schema ``pgembed_mteb`` and its collection."""
        with translated():
            tables = self.connection.execute(
                "select tablename from pg_catalog.pg_tables where schemaname = %s", (SCHEMA,)
            ).fetchall()
            existing = {each.name for each in list_collections(self.connection)}
            for (name,) in tables:
                if name in existing:
                    drop_collection(self.connection, name)
            statement = sql.SQL("drop schema if exists {} cascade")
            self.connection.execute(statement.format(sql.Identifier(SCHEMA)))

    def _fill(self, table: sql.Identifier, corpus: Iterable[Row]) -> None:
        """Make the table's rows those of the corpus, writing only what differs."""
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.execute(
                "create temporary table pgembed_corpus (id text, title text, body text)"
                " on commit drop"
            )
            with cursor.copy("copy pg_temp.pgembed_corpus from stdin") as copy:
                for row in corpus:
                    copy.write_row(_document(row))
            cursor.execute(
                sql.SQL(
                    "delete from {table} as t"
                    " where not exists (select from pg_temp.pgembed_corpus as c where c.id = t.id)"
                ).format(table=table)
            )
            cursor.execute(
                sql.SQL(
                    "insert into {table} as t select * from pg_temp.pgembed_corpus"
                    " on conflict (id) do update set title = excluded.title, body = excluded.body"
                    " where (t.title, t.body) is distinct from (excluded.title, excluded.body)"
                ).format(table=table)
            )


def _document(row: Row) -> tuple[str, str, str]:
    text, title = row.get("text"), row.get("title") or ""
    if not isinstance(text, str) or not isinstance(title, str):
        raise InputError(
            f"document {row.get('id')!r:.100} has no text",
            hint="Only tasks of texts can be run.",
        )
    # PostgreSQL holds no NUL, and no word of a benchmark hangs on one.
    return str(row["id"]), title.replace("\0", " "), text.replace("\0", " ")


def _query_text(row: Row) -> str:
    text, instruction = row.get("text"), row.get("instruction")
    if not isinstance(text, str):
        raise InputError(
            f"query {row.get('id')!r:.100} is {text!r:.100}, no text",
            hint="Only tasks of texts can be run.",
        )
    whole = f"{text} {instruction}" if isinstance(instruction, str) and instruction else text
    return whole.replace("\0", " ")
