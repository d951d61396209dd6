"""pgembed.registry and pgembed.experts: models and experts as the database knows them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from pgembed.database import Connection, connect
from pgembed.encoders import open_encoder
from pgembed.errors import EncoderError, FingerprintError, InputError, NotFoundError, PgembedError
from pgembed.experts import list_experts, load_experts, register_expert, retire_expert
from pgembed.linear_expert import HEADER, LinearExpert
from pgembed.model import EncoderSpec
from pgembed.registry import list_encoders, open_registered, register_encoder, registered_encoder
from pgembed.searching import search
from pgembed.syncing import sync
from tests.databases import cleared, copied_database
from tests.encoders.tiny import make_tiny_encoder

SEARCH = """
import sys
import pgembed

with pgembed.connect(sys.argv[1]) as connection:
    try:
        print(len(pgembed.search(connection, "notes", "apple")))
    except pgembed.PgembedError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def url(database_url: str, template: str) -> Iterator[str]:
    """One database for this module."""
    with copied_database(database_url, template, "pgembed_test_registry") as made:
        yield made


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A connection to it; what the test makes is gone afterwards."""
    with cleared(url) as opened:
        yield opened


@pytest.fixture
def spec(connection: Connection) -> EncoderSpec:
    """The encoder that every database of these tests has."""
    return registered_encoder(connection, "tiny")


def expert(seed: int = 0, dimensions: int = 32) -> LinearExpert:
    """A linear expert of rank 2."""
    random = np.random.default_rng(seed)
    return LinearExpert(random.random((dimensions, 2)), random.random((2, dimensions)))


def make_notes(connection: Connection, encoder: str) -> None:
    """Two notes, embedded."""
    connection.execute("create table notes (id int primary key, body text)")
    connection.execute("insert into notes values (1, 'red apple'), (2, 'deep ocean')")
    connection.execute(
        "select pgembed.create_collection('notes', 'notes', '{body}', encoder => %s)", (encoder,)
    )
    sync(connection, "notes")


def elsewhere(url: str) -> str:
    """What a search answers in a process that has opened no model yet."""
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, url], capture_output=True, text=True, check=True
    )
    return done.stdout


# Encoders.


def test_a_model_can_be_registered_again(connection: Connection, tmp_path: Path) -> None:
    """The same model changes nothing but where it is found, also from a copy of its files."""
    first = register_encoder(connection, str(make_tiny_encoder(tmp_path / "here")), name="mine")
    assert register_encoder(connection, str(tmp_path / "here"), name="mine") == first
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = register_encoder(connection, str(tmp_path / "there"), name="mine")
    assert moved.fingerprint == first.fingerprint
    assert registered_encoder(connection, "mine").source == str(tmp_path / "there")
    assert [each.name for each in list_encoders(connection)] == ["mine", "tiny"]


def test_a_name_is_that_of_the_directory_unless_given(
    connection: Connection, tmp_path: Path
) -> None:
    """The last part of the source, however it ends."""
    make_tiny_encoder(tmp_path / "my model")
    assert register_encoder(connection, f"{tmp_path}/my model/").name == "my model"


@pytest.mark.parametrize(
    "options", [{"query_prefix": "query: "}, {"max_tokens": 64}, {"dimensions": 16}]
)
def test_another_model_of_the_same_name_is_refused(
    connection: Connection, tiny_directory: Path, options: dict[str, Any]
) -> None:
    """Whatever changes the vectors makes another model; the first stays registered."""
    before = registered_encoder(connection, "tiny")
    with pytest.raises(FingerprintError, match="encoder 'tiny' is registered with") as raised:
        register_encoder(connection, str(tiny_directory), name="tiny", **options)
    assert "a name of its own" in (raised.value.hint or "")
    assert registered_encoder(connection, "tiny") == before


def test_options_are_kept_with_the_model(connection: Connection, tiny_directory: Path) -> None:
    """A client that knows the name alone encodes as the one that registered it."""
    options = {"query_prefix": "ask: ", "document_prefix": "text: ", "max_tokens": 32}
    spec = register_encoder(connection, str(tiny_directory), name="prefixed", **options)
    assert registered_encoder(connection, "prefixed") == spec
    mine = open_encoder(str(tiny_directory), name="other", **options)
    opened = open_registered(connection, "prefixed")
    assert np.array_equal(opened.encode_query(["apple"]), mine.encode_query(["apple"]))


def test_one_model_under_two_names_has_experts_for_each(
    connection: Connection, tiny_directory: Path, spec: EncoderSpec
) -> None:
    """A name is what experts and routers belong to, not the files."""
    twin = register_encoder(connection, str(tiny_directory), name="twin")
    register_expert(connection, twin, "law", expert())
    assert set(load_experts(connection, "twin")) == {"law"}
    assert load_experts(connection, "tiny") == {}
    assert twin.fingerprint == spec.fingerprint


def test_a_model_whose_files_changed_is_not_used(
    connection: Connection, url: str, tmp_path: Path
) -> None:
    """The next process refuses it, says what to do, and works again with the right files."""
    register_encoder(connection, str(make_tiny_encoder(tmp_path / "model")))
    make_notes(connection, "model")
    assert elsewhere(url).strip() == "2"
    make_tiny_encoder(tmp_path / "model", seed=1)
    answer = elsewhere(url)
    assert answer.startswith(f"FingerprintError the model at '{tmp_path / 'model'}' has")
    assert "restore the model's files" in answer
    make_tiny_encoder(tmp_path / "model")
    assert elsewhere(url).strip() == "2"


def test_a_model_whose_files_are_gone_is_named(
    connection: Connection, url: str, tmp_path: Path
) -> None:
    """With the directory that was looked for."""
    register_encoder(connection, str(make_tiny_encoder(tmp_path / "model")))
    make_notes(connection, "model")
    shutil.rmtree(tmp_path / "model")
    assert elsewhere(url).startswith(f"EncoderError there is no encoder {tmp_path / 'model'}")


@pytest.mark.parametrize("source", ["/nowhere/at/all", "", "minilm2", "\0", "hf:"])
def test_a_source_that_is_no_model_is_refused(connection: Connection, source: str) -> None:
    """Before anything is written."""
    with pytest.raises(EncoderError):
        register_encoder(connection, source)
    assert [each.name for each in list_encoders(connection)] == ["tiny"]


def test_an_unknown_encoder_is_answered_with_those_that_exist(connection: Connection) -> None:
    """Wherever a name is given."""
    for call in (registered_encoder, open_registered, load_experts):
        with pytest.raises(NotFoundError, match="'nope'") as raised:
            call(connection, "nope")
        assert "'tiny'" in (raised.value.hint or "")


def test_registering_is_undone_with_its_transaction(url: str, tmp_path: Path) -> None:
    """Nothing is committed behind the caller's back."""
    directory = str(make_tiny_encoder(tmp_path / "model"))
    with psycopg.connect(url) as connection:
        spec = register_encoder(connection, directory)
        register_expert(connection, spec, "law", expert())
        connection.rollback()
        assert [each.name for each in list_encoders(connection)] == ["tiny"]


# Experts.


def test_an_expert_comes_back_as_it_was(connection: Connection, spec: EncoderSpec) -> None:
    """Weights to the bit, and all that is known of it."""
    mine = expert()
    metrics = {"dev_ndcg_at_10": {"law": {"base": 0.5, "expert": 0.6}}, "text": "naïve"}
    register_expert(
        connection, spec, "law", mine, domain="law", trained_on="notes", metrics=metrics
    )
    loaded = load_experts(connection, "tiny")["law"]
    assert np.array_equal(loaded.A, mine.A)
    assert np.array_equal(loaded.B, mine.B)
    listed = {each.name: each for each in list_experts(connection, "tiny")}
    assert set(listed) == {"base", "law"}
    assert (listed["law"].kind, listed["law"].state, listed["law"].domain) == (
        "linear",
        "active",
        "law",
    )
    assert listed["law"].metrics == metrics
    row = connection.execute("select sha256 from pgembed.expert where name = 'law'").fetchone()
    assert row == (mine.sha256,)


def test_registering_again_replaces(connection: Connection, spec: EncoderSpec) -> None:
    """Also what was retired: it serves again."""
    register_expert(connection, spec, "law", expert(1))
    retire_expert(connection, "tiny", "law")
    assert load_experts(connection, "tiny") == {}
    register_expert(connection, spec, "law", expert(2))
    assert load_experts(connection, "tiny")["law"].sha256 == expert(2).sha256


def test_a_retired_expert_stays_a_row(connection: Connection, spec: EncoderSpec) -> None:
    """It is listed, not loaded, and an update brings it back."""
    register_expert(connection, spec, "law", expert())
    retire_expert(connection, "tiny", "law")
    retire_expert(connection, "tiny", "law")
    assert [(each.name, each.state) for each in list_experts(connection)] == [
        ("base", "active"),
        ("law", "retired"),
    ]
    connection.execute("update pgembed.expert set state = 'active' where name = 'law'")
    assert set(load_experts(connection, "tiny")) == {"law"}


def test_what_cannot_be_retired_is_named(connection: Connection) -> None:
    """The base, and what does not exist."""
    with pytest.raises(InputError, match="base cannot be retired"):
        retire_expert(connection, "tiny", "base")
    for encoder, name in (("tiny", "nope"), ("nope", "law")):
        with pytest.raises(NotFoundError, match="nope"):
            retire_expert(connection, encoder, name)


@pytest.mark.parametrize("name", ["base", "soft", "hard", ""])
def test_the_names_of_modes_are_taken(connection: Connection, spec: EncoderSpec, name: str) -> None:
    """By us and by the database: a mode and an expert could not be told apart."""
    with pytest.raises(InputError):
        register_expert(connection, spec, name, expert())
    if name != "base":
        insert = (
            "insert into pgembed.expert (encoder, name, kind, fingerprint, artifact)"
            " values ('tiny', %s, 'linear', %s, 'x')"
        )
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(insert, (name, spec.fingerprint))


@pytest.mark.parametrize("name", ["a b", 'q"uote', "it's", "語", "%s", "x" * 300])
def test_any_other_name_names_an_expert(
    connection: Connection, spec: EncoderSpec, name: str
) -> None:
    """Registered, loaded, asked for in a search and retired under it."""
    make_notes(connection, "tiny")
    register_expert(connection, spec, name, expert())
    assert set(load_experts(connection, "tiny")) == {name}
    assert len(search(connection, "notes", "apple", mode=name)) == 2
    retire_expert(connection, "tiny", name)


def test_an_expert_of_another_model_is_refused(
    connection: Connection, spec: EncoderSpec, tmp_path: Path
) -> None:
    """By name, by a direct insert and by an update: the database holds experts to their model."""
    other = register_encoder(connection, str(make_tiny_encoder(tmp_path / "other", seed=1)))
    stranger = EncoderSpec("tiny", other.fingerprint, 32, 128, "elsewhere")
    with pytest.raises(FingerprintError, match="expert 'law' was trained for fingerprint"):
        register_expert(connection, stranger, "law", expert())
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.execute(
            "insert into pgembed.expert (encoder, name, kind, fingerprint, artifact)"
            " values ('tiny', 'law', 'linear', %s, %s)",
            (other.fingerprint, expert().to_bytes()),
        )
    register_expert(connection, other, "law", expert())
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.execute("update pgembed.expert set encoder = 'tiny' where name = 'law'")
    assert load_experts(connection, "tiny") == {}


def test_an_expert_of_other_dimensions_is_refused(
    connection: Connection, spec: EncoderSpec
) -> None:
    """Before it could stop every search."""
    with pytest.raises(InputError, match="'law' maps 16 dimensions, encoder 'tiny' has 32"):
        register_expert(connection, spec, "law", expert(dimensions=16))


DAMAGES = {
    "empty": b"",
    "not an expert": b"\x93NUMPY" * 50,
    "cut off": expert().to_bytes()[:-1],
    "too long": expert().to_bytes() + b"\0",
    "only a header": HEADER.pack(b"PGLINEAR", 1, 32, 0),
    "of a later layout": HEADER.pack(b"PGLINEAR", 2, 32, 2) + expert().to_bytes()[HEADER.size :],
    "of other dimensions": expert(dimensions=31).to_bytes(),
    "of a rank that fits nowhere": HEADER.pack(b"PGLINEAR", 1, 32, 2**31) + b"\0" * 100,
    "not finite": expert().to_bytes()[:-4] + np.float32(np.nan).tobytes(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artifact_is_never_applied(
    connection: Connection, spec: EncoderSpec, damage: str
) -> None:
    """Its layout and its numbers are checked; the error names the expert and how to go on.

    The stored checksum cannot tell damage within the database, because it is computed from the
    artifact there: it is for those who copy artifacts.
    """
    make_notes(connection, "tiny")
    register_expert(connection, spec, "it's", expert())
    connection.execute(
        "update pgembed.expert set artifact = %s where name = 'it''s'", (DAMAGES[damage],)
    )
    with pytest.raises(InputError, match="\"it's\" of encoder 'tiny' is damaged") as raised:
        search(connection, "notes", "apple")
    remedy = (raised.value.hint or "").removeprefix("Take it out: ")
    connection.execute(sql.SQL(remedy))  # type: ignore[arg-type]
    assert len(search(connection, "notes", "apple")) == 2


def test_the_checksum_belongs_to_the_artifact(connection: Connection, spec: EncoderSpec) -> None:
    """Nobody can store another one beside it."""
    register_expert(connection, spec, "law", expert())
    with pytest.raises(psycopg.errors.GeneratedAlways):
        connection.execute("update pgembed.expert set sha256 = 'abc' where name = 'law'")


def test_every_refusal_is_an_error_of_ours(connection: Connection, spec: EncoderSpec) -> None:
    """Names with characters that PostgreSQL cannot hold, states and encoders that are none."""
    for name in ("nul \0", "lone \ud800"):
        with pytest.raises(PgembedError):
            register_expert(connection, spec, name, expert())
        with pytest.raises(PgembedError):
            retire_expert(connection, "tiny", name)
        with pytest.raises(PgembedError):
            registered_encoder(connection, name)
    with pytest.raises(InputError, match="state"):
        register_expert(connection, spec, "law", expert(), state="happy")


def test_two_sessions_that_register_one_expert_end_with_one(
    connection: Connection, spec: EncoderSpec, url: str
) -> None:
    """The later commit wins, and neither fails."""
    with connect(url) as other:
        with other.transaction():
            register_expert(other, spec, "law", expert(1))
        register_expert(connection, spec, "law", expert(2))
        assert load_experts(other, "tiny")["law"].sha256 == expert(2).sha256


def test_a_session_s_datestyle_does_not_matter(connection: Connection) -> None:
    """Nothing of an encoder is a time that psycopg would have to read."""
    expected = registered_encoder(connection, "tiny")
    connection.execute("set datestyle = 'SQL, DMY'")
    assert registered_encoder(connection, "tiny") == expected
    assert expected in list_encoders(connection)
