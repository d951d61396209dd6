"""LoRA experts as arms of a router: in searches, in evaluation, in the worker, beside linear ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from psycopg.types.json import Jsonb

from pgembed import registry, router
from pgembed.collections import create_collection
from pgembed.database import Connection
from pgembed.encoders import Encoder
from pgembed.encoders.bank import AdapterBank, States
from pgembed.encoders.preparing import prepare
from pgembed.errors import EncoderError, InputError
from pgembed.experts import register_expert
from pgembed.linear_expert import LinearExpert
from pgembed.registry import open_registered, register_encoder, registered_encoder
from pgembed.routing import load_router
from pgembed.searching import explain, search
from pgembed.syncing import sync
from pgembed.worker.answering import Request, answer_all
from tests.encoders.tiny_bert import WIDTH, make_tiny_bert, random_expert
from tests.test_training import WORDS

QUERIES = [" ".join(WORDS[start : start + 3]) for start in range(6)]


@pytest.fixture
def bert(connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """A collection of the tiny BERT, with LoRA experts of the upper half and of all layers."""
    monkeypatch.setattr(router, "_opened", {})
    register_encoder(connection, str(make_tiny_bert(tmp_path / "bert")), name="bert")
    encoder = open_registered(connection, "bert")
    random = np.random.default_rng(0)
    connection.execute("create table notes (id int primary key, body text)")
    with connection.cursor() as cursor:
        rows = [(n, " ".join(random.choice(WORDS, 5))) for n in range(40)]
        cursor.executemany("insert into notes values (%s, %s)", rows)
    create_collection(connection, "notes", source="notes", content=["body"], encoder="bert")
    sync(connection, "notes")
    spec = registered_encoder(connection, "bert")
    register_expert(connection, spec, "deep", random_expert(range(4), seed=1))
    register_expert(connection, spec, "upper", random_expert((2, 3), seed=2))
    weights = random.standard_normal((WIDTH, 2)).astype(np.float32)
    register_expert(connection, spec, "linear", LinearExpert(weights, weights.T.copy()))
    return encoder


def fixed(connection: Connection, **weights: float) -> None:
    """Install a router that gives every query the same weights."""
    connection.execute(
        "select pgembed.set_router('bert', 'fixed', %s)", (Jsonb({"weights": weights}),)
    )


def test_arms_are_mixed_whatever_their_kind(connection: Connection, bert: Encoder) -> None:
    """The vector is the weighted sum of base, linear and LoRA vectors; passes are counted."""
    prepare(bert)
    fixed(connection, base=0.1, linear=0.2, upper=0.3, deep=0.4)
    router = load_router(connection, "bert")
    states = router.encode(QUERIES)
    assert isinstance(states, States)
    arms = router.arm_vectors(states.base, QUERIES)
    shares = {"base": 0.1, "linear": 0.2, "upper": 0.3, "deep": 0.4}
    mixed = sum(share * arms[name] for name, share in shares.items())
    expected = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    np.testing.assert_allclose(
        router.query_vectors(states.base, "soft", QUERIES), expected, atol=1e-6
    )
    for row in range(len(QUERIES)):
        vector, route = router.query_vector(states.take([row]), "soft")
        np.testing.assert_allclose(vector, expected[row], atol=1e-6)
        assert route.passes == pytest.approx(1 + 0.5 + 1)
    assert router.query_vector(states.take([0]), "linear")[1].passes == 1


def test_a_search_and_the_worker_give_the_same_vector(
    connection: Connection, bert: Encoder
) -> None:
    """Text to text: what SQL gets from the worker is what Python searches with."""
    prepare(bert)
    fixed(connection, base=1, upper=1)
    version = connection.execute("select pgembed.routing_version('bert')").fetchone()
    assert version is not None
    asked = [Request(str(n), "bert", version[0], "soft", text) for n, text in enumerate(QUERIES)]
    answers = answer_all(connection, {"bert": bert}, asked)
    for text, answer in zip(QUERIES, answers, strict=True):
        assert answer.vector is not None
        found = explain(connection, "notes", text, mode="soft")
        given = search(connection, "notes", answer.vector)
        assert [hit.key for hit in found.hits] == [hit.key for hit in given]
        assert found.route.passes == 1.5


def test_a_new_version_of_an_expert_serves_at_once(connection: Connection, bert: Encoder) -> None:
    """Old routers keep the old one: each router has a bank of its own on the open model."""
    prepare(bert)
    old = load_router(connection, "bert")
    Z = bert.encode_query(QUERIES)
    before = old.query_vectors(Z, "upper", QUERIES)
    register_expert(
        connection, registered_encoder(connection, "bert"), "upper", random_expert((2, 3), seed=9)
    )
    new = load_router(connection, "bert")
    after = new.query_vectors(Z, "upper", QUERIES)
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_array_equal(old.query_vectors(Z, "upper", QUERIES), before)
    bank = AdapterBank.open(bert)
    bank.add("x", random_expert((2, 3), seed=9))
    states = bank.start(QUERIES)
    expected = bank.finish(states, range(len(QUERIES)), ["x"] * len(QUERIES))
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_lora_needs_texts_and_a_prepared_model(connection: Connection, bert: Encoder) -> None:
    """A vector is not enough, and the error says what to do; other modes need neither."""
    router = load_router(connection, "bert")
    Z = bert.encode_query(QUERIES)
    router.query_vectors(Z, "linear")
    assert len(search(connection, "notes", QUERIES[0], mode="linear")) == 10
    with pytest.raises(InputError, match="as text"):
        router.query_vectors(Z, "upper")
    with pytest.raises(EncoderError, match="prepare"):
        router.query_vectors(Z, "upper", QUERIES)
    with pytest.raises(InputError, match="as text"):
        router.query_vector(Z[0], "upper")


def test_an_expert_that_no_route_leads_to_needs_nothing(
    connection: Connection, bert: Encoder
) -> None:
    """The model is not prepared, but only base and a linear expert have weight."""
    fixed(connection, base=1, linear=1)
    assert len(search(connection, "notes", QUERIES[0], mode="soft")) == 10
    fixed(connection, base=1, upper=1)
    with pytest.raises(EncoderError, match="prepare"):
        search(connection, "notes", QUERIES[0], mode="soft")


def test_the_caller_s_encoder_serves_lora_too(connection: Connection, bert: Encoder) -> None:
    """Also where the registered source is not on this machine."""
    prepare(bert)
    fixed(connection, base=1, upper=1)
    expected = search(connection, "notes", QUERIES[0], mode="soft")
    connection.execute("update pgembed.encoder set source = '/nowhere'")
    registry._opened.clear()
    found = search(connection, "notes", QUERIES[0], mode="soft", encoder=bert)
    assert [hit.key for hit in found] == [hit.key for hit in expected]
