"""pgembed.register_claimer."""

from __future__ import annotations

from pgembed.database import Connection, connect
from tests.sql.support import scalar, second_session

LIVING = "select pgembed.living_claimers()"


def test_numbers_are_one_s_own(shared: Connection) -> None:
    """Each call has another number, and it lives as long as its session."""
    with second_session(shared) as session:
        numbers = {scalar(session, "select pgembed.register_claimer()") for _ in range(3)}
        assert len(numbers) == 3
        assert numbers <= set(scalar(shared, LIVING))
        shared.execute("select pg_terminate_backend(%s, 10000)", (session.info.backend_pid,))
    assert not numbers & set(scalar(shared, LIVING))


def test_a_claimer_survives_its_transaction(shared: Connection) -> None:
    """The lock is the session's: a rollback does not let go of it."""
    with second_session(shared) as session:
        with session.transaction(force_rollback=True):
            number = scalar(session, "select pgembed.register_claimer()")
        assert number in scalar(shared, LIVING)


def test_other_databases_do_not_count(shared: Connection, migrated_url: str) -> None:
    """The same number in another database is another session's."""
    with second_session(shared) as session:
        number = scalar(session, "select pgembed.register_claimer()")
        with connect(migrated_url) as elsewhere:
            assert number not in scalar(elsewhere, LIVING)
