"""Which expert fits a table: what is stored of experts, and what is said of tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from pgembed.collections import create_collection
from pgembed.database import Connection, connect
from pgembed.errors import InputError, NotFoundError, TrainingError
from pgembed.experts import register_expert
from pgembed.judgments import JudgedCollection, add_judgments, read_judged
from pgembed.linear_expert import LinearExpert
from pgembed.model import Judgment
from pgembed.recommending import describe_expert, recommend_experts
from pgembed.registry import registered_encoder
from pgembed.syncing import sync
from tests.databases import copied_database

FRUIT, TRAFFIC = ("apple", "pear", "plum", "fig"), ("car", "train", "bus", "tram")


@dataclass(frozen=True, slots=True, repr=False)
class World:
    """A judged collection of two domains, and tables of each kind without judgments."""

    url: str
    judged: JudgedCollection


def sentences(words: tuple[str, ...], seed: int, count: int) -> list[str]:
    """Short texts of some words."""
    random = np.random.default_rng(seed)
    return [" ".join([*random.choice(words, 3), str(random.integers(9))]) for _ in range(count)]


def make_texts(connection: Connection, name: str, texts: list[str]) -> None:
    """A table of texts with keys from 1, and its collection, embedded."""
    connection.execute(f"create table {name} (id int primary key, body text)")
    connection.execute(
        f"insert into {name} select t.n, t.body from unnest(%s::text[]) with ordinality as t (body, n)",
        (texts,),
    )
    create_collection(connection, name, source=name, content=["body"], encoder="tiny")
    sync(connection, name)


@pytest.fixture(scope="module")
def world(database_url: str, template: str) -> Iterator[World]:
    """Embeds and judges once for this module."""
    with copied_database(database_url, template, "pgembed_test_recommending") as url:
        with connect(url) as connection:
            make_texts(connection, "mixed", sentences(FRUIT, 0, 60) + sentences(TRAFFIC, 1, 60))
            make_texts(connection, "orchard", sentences(FRUIT, 2, 60))
            make_texts(connection, "street", sentences(TRAFFIC, 3, 60))
            make_texts(connection, "strange", [f"q{n} zz{n} y{n % 7}" for n in range(60)])
            made = [
                Judgment(text, str(number + first), 1, "train", domain)
                for domain, words, first in (("fruit", FRUIT, 1), ("traffic", TRAFFIC, 61))
                for number, text in enumerate(sentences(words, first + 9, 60))
            ]
            add_judgments(connection, "mixed", made)
            judged = read_judged(connection, "mixed")
            for name in ("fruit", "traffic", "general"):
                expert = LinearExpert(np.zeros((32, 1)), np.zeros((1, 32)))
                domain = None if name == "general" else name
                encoder = registered_encoder(connection, "tiny")
                register_expert(connection, encoder, name, expert, domain=domain)
                describe_expert(connection, "tiny", name, [judged], domain)
        yield World(url, judged)


@pytest.fixture
def connection(world: World) -> Iterator[Connection]:
    """A connection to it whose work is undone after the test."""
    with connect(world.url) as opened, opened.transaction(force_rollback=True):
        yield opened


@pytest.mark.parametrize(("table", "nearest"), [("orchard", "fruit"), ("street", "traffic")])
def test_the_expert_of_a_tables_domain_comes_first(
    connection: Connection, table: str, nearest: str
) -> None:
    """By its chunks, where it has no judgments; the other domain's expert is out of domain."""
    found = recommend_experts(connection, table)
    fits = {fit.expert: fit for fit in found.fits}
    assert (found.side, found.sample) == ("document", 60)
    assert found.fits[0].expert == nearest == max(fits, key=lambda name: fits[name].cosine)
    assert not fits[nearest].out_of_domain
    (other,) = {"fruit", "traffic"} - {nearest}
    assert fits[other].out_of_domain
    assert fits[nearest].mmd < fits["general"].mmd < fits[other].mmd
    for fit in found.fits:
        assert fit.low <= fit.high
    assert recommend_experts(connection, table) == found


def test_a_table_of_no_domain_fits_no_expert(connection: Connection) -> None:
    """It still gets a ranking, and is told that all are out of domain."""
    assert all(fit.out_of_domain for fit in recommend_experts(connection, "strange").fits)


def test_judged_queries_say_more_than_documents(world: World, connection: Connection) -> None:
    """They are compared where there are enough, unless the caller wants documents."""
    found = recommend_experts(connection, "mixed")
    assert found.side == "query"
    assert found.sample == len({text for q in world.judged.queries.values() for text in q.texts})
    assert found.fits[0].expert == "general"
    assert recommend_experts(connection, "mixed", side="document").side == "document"
    with pytest.raises(InputError, match="--side document"):
        recommend_experts(connection, "street", side="query")


def test_an_expert_that_was_replaced_is_described_anew(
    world: World, connection: Connection
) -> None:
    """Until then it is named, not recommended; experts that do not serve are left out."""
    connection.execute("update pgembed.expert set created_at = now() + '1 s' where name = 'fruit'")
    connection.execute("select pgembed.retire_expert('tiny', 'general')")
    found = recommend_experts(connection, "orchard")
    assert [fit.expert for fit in found.fits] == ["traffic"]
    assert found.undescribed == ("fruit",)
    connection.execute("update pgembed.expert set created_at = now() where name = 'fruit'")
    assert describe_expert(connection, "tiny", "fruit", [world.judged], "fruit") == (
        "query",
        "document",
    )
    assert recommend_experts(connection, "orchard").fits[0].expert == "fruit"


def test_all_experts_of_a_side_share_their_kernel(connection: Connection) -> None:
    """So that distances compare; a description goes with its expert."""
    rows = connection.execute(
        "select side, count(*), count(distinct gamma), min(n) from pgembed.expert_domain"
        " group by side order by side"
    ).fetchall()
    assert [(side, count, gammas) for side, count, gammas, _ in rows] == [
        ("document", 3, 1),
        ("query", 3, 1),
    ]
    connection.execute("delete from pgembed.expert where name = 'fruit'")
    left = connection.execute("select count(*) from pgembed.expert_domain").fetchone()
    assert left == (4,)


def test_what_cannot_be_compared_is_refused(world: World, connection: Connection) -> None:
    """Unknown names, a domain without queries, an empty table, a sample too small."""
    with pytest.raises(NotFoundError, match="fruit, general, traffic"):
        describe_expert(connection, "tiny", "nope", [world.judged], "fruit")
    with pytest.raises(TrainingError, match="'nuts'"):
        describe_expert(connection, "tiny", "fruit", [world.judged], "nuts")
    with pytest.raises(NotFoundError, match="orchard"), connection.transaction():
        recommend_experts(connection, "nope")
    for sample in (3, 2001):
        with pytest.raises(InputError, match=f"sample is {sample}.* at most 2000"):
            recommend_experts(connection, "orchard", sample=sample)
    connection.execute("delete from pgembed_data.orchard")
    with pytest.raises(InputError, match="pgembed sync"):
        recommend_experts(connection, "orchard")
