"""pgembed.register_encoder."""

from __future__ import annotations

from pgembed.database import Connection
from pgembed.errors import FingerprintError, InputError
from tests.sql.support import column, refused, scalar

REGISTER = "select pgembed.register_encoder('new', repeat('{}', 64), {}, 64, 'mean', '{}')"


def test_an_encoder_has_a_base(shared: Connection) -> None:
    """With the encoder comes its identity expert, active."""
    shared.execute(REGISTER.format("c", 8, "here"))
    rows = shared.execute(
        "select name, kind, state from pgembed.expert where encoder = 'new'"
    ).fetchall()
    assert rows == [("base", "base", "active")]


def test_again_it_only_moves(shared: Connection) -> None:
    """The same model registered again changes where it is found, and keeps its experts."""
    shared.execute(REGISTER.format("c", 8, "here"))
    shared.execute("update pgembed.expert set metrics = '{\"kept\": 1}' where encoder = 'new'")
    shared.execute(REGISTER.format("c", 8, "there"))
    assert column(shared, "select source from pgembed.encoder where name = 'new'") == ["there"]
    assert column(shared, "select metrics from pgembed.expert where encoder = 'new'") == [
        {"kept": 1}
    ]


def test_another_model_under_the_name_is_refused(shared: Connection) -> None:
    """Its vectors would not match the stored ones: another fingerprint raises PGE04."""
    shared.execute(REGISTER.format("c", 8, "here"))
    error = refused(shared, FingerprintError, REGISTER.format("d", 8, "here"))
    assert "cccccccccccc" in str(error)
    assert "dddddddddddd" in str(error)
    assert scalar(shared, "select source from pgembed.encoder where name = 'new'") == "here"


def test_dimensions_have_a_limit(shared: Connection) -> None:
    """An HNSW index takes 1 to 4000."""
    for dimensions in (0, -1, 4001):
        assert "4000" in str(refused(shared, InputError, REGISTER.format("c", dimensions, "x")))
    shared.execute(REGISTER.format("c", 4000, "x"))
