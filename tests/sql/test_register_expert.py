"""pgembed.register_expert."""

from __future__ import annotations

import hashlib

from pgembed.database import Connection
from pgembed.errors import FingerprintError, InputError, NotFoundError
from tests.sql.support import FINGERPRINT, refused, register_plain_encoder, scalar

REGISTER = "select pgembed.register_expert('plain', %s, 'linear', %s, %s, domain => %s)"


def test_an_expert_is_a_row(shared: Connection) -> None:
    """It is active at once, with the checksum of its artifact."""
    register_plain_encoder(shared)
    shared.execute(REGISTER, ("law", FINGERPRINT, b"artifact", "law"))
    row = shared.execute(
        "select state, domain, artifact, sha256, metrics from pgembed.expert where name = 'law'"
    ).fetchone()
    checksum = hashlib.sha256(b"artifact").hexdigest()
    assert row == ("active", "law", b"artifact", checksum, {})


def test_again_it_is_replaced(shared: Connection) -> None:
    """The same name replaces artifact and domain, brings a retired one back, and is noticed."""
    register_plain_encoder(shared)
    shared.execute(REGISTER, ("law", FINGERPRINT, b"one", "law"))
    shared.execute("select pgembed.retire_expert('plain', 'law')")
    before = scalar(shared, "select pgembed.routing_version('plain')")
    shared.execute(REGISTER, ("law", FINGERPRINT, b"two", None))
    row = shared.execute(
        "select state, domain, artifact from pgembed.expert where name = 'law'"
    ).fetchone()
    assert row == ("active", None, b"two")
    assert scalar(shared, "select pgembed.routing_version('plain')") != before


def test_an_expert_of_another_model_is_refused(shared: Connection) -> None:
    """Its fingerprint must be the encoder's: PGE04 otherwise, even past the function."""
    register_plain_encoder(shared)
    error = refused(shared, FingerprintError, REGISTER, ("law", "f" * 64, b"x", None))
    assert "ffffffffffff" in str(error)
    assert FINGERPRINT[:12] in str(error)


def test_names_of_modes_are_taken(shared: Connection) -> None:
    """base, soft and hard mean something else wherever an expert can be named."""
    register_plain_encoder(shared)
    for name in ("base", "soft", "hard"):
        error = refused(shared, InputError, REGISTER, (name, FINGERPRINT, b"x", None))
        assert name in str(error)


def test_unknown_encoder_is_refused(shared: Connection) -> None:
    """The error lists the encoders that exist."""
    error = refused(shared, NotFoundError, REGISTER, ("law", FINGERPRINT, b"x", None))
    assert "'tiny'" in str(error.hint)


def test_a_refused_retraining_leaves_the_serving_expert(shared: Connection) -> None:
    """An active expert keeps its state and artifact when one of its name is rejected."""
    register = "select pgembed.register_expert('tiny', 'kept', 'linear', %s, %s, %s)"
    fingerprint = scalar(shared, "select fingerprint from pgembed.encoder where name = 'tiny'")
    shared.execute(register, (fingerprint, b"good", "active"))
    shared.execute(register, (fingerprint, b"worse", "rejected"))
    found = "select state, artifact from pgembed.expert where name = 'kept'"
    assert shared.execute(found).fetchone() == ("active", b"good")
    shared.execute(register, (fingerprint, b"better", "active"))
    assert shared.execute(found).fetchone() == ("active", b"better")
