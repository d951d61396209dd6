"""pgembed.retire_expert."""

from __future__ import annotations

from pgembed.database import Connection
from pgembed.errors import InputError, NotFoundError
from tests.sql.support import FINGERPRINT, refused, register_plain_encoder, scalar


def test_a_retired_expert_stays_as_a_row(shared: Connection) -> None:
    """It leaves routing, keeps artifact and pilots, and comes back by an update."""
    register_plain_encoder(shared)
    shared.execute(
        "select pgembed.register_expert('plain', 'law', 'linear', %s, 'x')", (FINGERPRINT,)
    )
    shared.execute("insert into pgembed.pilot values ('plain', 'law', 'd', 1, '[1,0,0,0]')")
    experts = "select array_agg(expert) from pgembed.route('plain', '[1,0,0,0]', 'hard')"
    before = scalar(shared, "select pgembed.routing_version('plain')")
    assert scalar(shared, experts) == ["law"]
    shared.execute("select pgembed.retire_expert('plain', 'law')")
    assert scalar(shared, experts) == ["base"]
    assert scalar(shared, "select pgembed.routing_version('plain')") != before
    assert scalar(shared, "select artifact is not null from pgembed.expert where name = 'law'")
    shared.execute("update pgembed.expert set state = 'active' where name = 'law'")
    assert scalar(shared, experts) == ["law"]


def test_base_cannot_be_retired(shared: Connection) -> None:
    """The encoder itself is always an arm."""
    assert "base" in str(
        refused(shared, InputError, "select pgembed.retire_expert('tiny', 'base')")
    )


def test_unknown_expert_is_refused(shared: Connection) -> None:
    """So is a known expert of another encoder."""
    for encoder, name in (("tiny", "nope"), ("nope", "law")):
        error = refused(
            shared, NotFoundError, "select pgembed.retire_expert(%s, %s)", (encoder, name)
        )
        assert f"'{name}'" in str(error)
