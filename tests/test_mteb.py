"""The search model for mteb, on tasks of the shape that mteb gives."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

import pgembed
from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError
from pgembed.mteb import DatabaseSearch
from tests.sql.support import scalar

CORPUS = [
    {"id": "d1", "title": "Fruit", "text": "red apple"},
    {"id": "d2", "title": "", "text": "fast car\0"},
    {"id": "d'3\t", "text": "deep ocean"},
]

QUERIES = [
    {"id": "q1", "text": "red apple"},
    {"id": "q2", "text": "deep", "instruction": "ocean"},
]


@dataclass
class Metadata:
    """What is used of mteb's metadata of a task."""

    name: str = "Toy"


WHERE: dict[str, Any] = {"task_metadata": Metadata(), "hf_split": "test", "hf_subset": "default"}
REST: dict[str, Any] = {"encode_kwargs": {"batch_size": 32}, "num_proc": None}


@pytest.fixture
def model(connection: Connection) -> Iterator[DatabaseSearch]:
    """A model whose corpus is indexed."""
    made = DatabaseSearch(connection, encoder="tiny")
    made.index(CORPUS, **WHERE, **REST)
    yield made
    made.drop()


def test_a_task_runs_by_searches_of_the_database(model: DatabaseSearch) -> None:
    """Scores by document, by query; as many as asked for, the same as a user's search."""
    found = model.search(QUERIES, **WHERE, top_k=2, **REST)
    assert {query: len(scores) for query, scores in found.items()} == {"q1": 2, "q2": 2}
    name = model.collection_name(Metadata(), "test", "default")
    hits = pgembed.search(model.connection, name, "deep ocean", k=2)
    assert found["q2"] == {hit.key: hit.score for hit in hits}
    assert max(found["q2"], key=lambda key: found["q2"][key]) == "d'3\t"
    assert next(iter(model.search(QUERIES[:1], **WHERE, top_k=9, **REST)["q1"])) == "d1"


def test_given_documents_are_ranked_anew(model: DatabaseSearch) -> None:
    """Those alone."""
    ranked = {"q1": ["d2", "d'3\t"], "q2": []}
    found = model.search(QUERIES, **WHERE, top_k=9, top_ranked=ranked, **REST)
    assert {query: set(scores) for query, scores in found.items()} == {
        "q1": {"d2", "d'3\t"},
        "q2": set(),
    }


def test_indexing_again_embeds_what_changed(model: DatabaseSearch) -> None:
    """Rows that are gone are gone, too; rows that stay are not written."""
    name = model.collection_name(Metadata(), "test", "default")
    kept = f"select xmin::text from pgembed_mteb.\"{name}\" where id = 'd1'"
    before = scalar(model.connection, kept)
    told: list[tuple[str, int, int]] = []
    again = DatabaseSearch(
        model.connection, encoder="tiny", on_progress=lambda *each: told.append(each)
    )
    again.index([CORPUS[0], {"id": "d4", "text": "green pear"}], **WHERE, **REST)
    assert scalar(model.connection, kept) == before
    assert told == [("index", 1, 1)]
    found = again.search(QUERIES[:1], **WHERE, top_k=9, **REST)
    assert set(found["q1"]) == {"d1", "d4"}


def test_each_split_has_its_corpus(model: DatabaseSearch) -> None:
    """A task that was not indexed is not found; names of any length do not meet."""
    with pytest.raises(NotFoundError):
        model.search(QUERIES, **{**WHERE, "hf_split": "dev"}, top_k=1, **REST)
    long = [model.collection_name(Metadata("\u00e9" * 60 + n), "test", "default") for n in "ab"]
    assert len(set(long)) == 2
    assert all(len(name.encode()) <= 56 for name in long)


def test_only_texts_are_taken(model: DatabaseSearch) -> None:
    """Images are named as what cannot be run."""
    with pytest.raises(InputError, match="'d9' has no text"):
        model.index([{"id": "d9", "image": b""}], **WHERE, **REST)
    with pytest.raises(InputError, match="'q9' is None, no text"):
        model.search([{"id": "q9"}], **WHERE, top_k=1, **REST)
    with pytest.raises(NotFoundError):
        DatabaseSearch(model.connection, encoder="none")


def test_what_was_made_can_be_dropped(model: DatabaseSearch) -> None:
    """Collections, tables and schema; twice does no harm."""
    model.drop()
    model.drop()
    assert scalar(model.connection, "select count(*) from pgembed.collection") == 0
    assert scalar(model.connection, "select to_regnamespace('pgembed_mteb') is null")


def test_metadata_tells_models_apart(
    model: DatabaseSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By encoder and mode; without mteb it is said how to get it."""

    class ModelMeta:
        """Keeps what it is given."""

        create_empty = staticmethod(dict)

    module = ModuleType("mteb.models.model_meta")
    module.ModelMeta = ModelMeta  # type: ignore[attr-defined]
    for name in ("mteb", "mteb.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "mteb.models.model_meta", module)
    assert model.mteb_model_meta["name"] == "pgembed/tiny-soft"
    hybrid = DatabaseSearch(model.connection, encoder="tiny", mode="base", hybrid=True)
    assert hybrid.mteb_model_meta["name"] == "pgembed/tiny-base-hybrid"
    monkeypatch.setitem(sys.modules, "mteb.models.model_meta", None)
    with pytest.raises(InputError, match=r"pgembed-router\[mteb\]"):
        _ = model.mteb_model_meta


def test_it_follows_the_protocol_of_mteb(model: DatabaseSearch) -> None:
    """Where mteb is installed."""
    protocols = pytest.importorskip("mteb.models.models_protocols")
    assert isinstance(model, protocols.SearchProtocol)
    assert not isinstance(model, protocols.EncoderProtocol)
