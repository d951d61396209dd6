"""The queue of query texts: submit, take, answer, fetch, sweep."""

from __future__ import annotations

import threading
from uuid import UUID, uuid4

from pgembed.database import Connection, connect
from pgembed.errors import NotFoundError
from tests.sql.support import column, refused, scalar
from tests.sql.test_encode import fetch
from tests.sql.texts import Answer, answer, hanging, take

VECTOR = "[1,2,3]"


def submit(connection: Connection, text: str) -> UUID:
    """Hand in a text; its token."""
    token = scalar(
        connection, "select token from pgembed.submit_request('tiny', 'soft', %s)", (text,)
    )
    assert isinstance(token, UUID)
    return token


def claimer_of(connection: Connection) -> int:
    """A number for this session."""
    return int(scalar(connection, "select pgembed.register_claimer()"))


def test_a_request_from_hand_to_hand(texts: Connection, texts_url: str) -> None:
    """Submitted, taken, answered, fetched, gone."""
    with hanging(texts_url) as worker:
        claimer = claimer_of(worker)
        token = submit(texts, "red apple")
        assert fetch(texts, token) == ("waiting", None, None, None, None)
        (request,) = take(worker, claimer)
        version = scalar(texts, "select pgembed.routing_version('tiny')")
        assert request == (token, "tiny", version, "soft", "red apple")
        assert take(worker, claimer) == []
        assert fetch(texts, token)[0] == "waiting"
        assert answer(worker, claimer, [request], [Answer(VECTOR)]) == 1
        assert answer(worker, claimer, [request], [Answer("[4]")]) == 0
        assert fetch(texts, token) == ("answered", VECTOR, None, None, None)
        assert fetch(texts, token)[0] == "gone"


def test_requests_are_taken_oldest_first_and_once(texts: Connection, texts_url: str) -> None:
    """As many as were asked for, for the given encoders; two workers get different ones."""
    with hanging(texts_url) as one, connect(texts_url) as two:
        claimers = {session: claimer_of(session) for session in (one, two)}
        for number in range(5):
            submit(texts, f"text {number}")
        statement = "select query from pgembed.take_requests(%s, %s, %s)"
        assert column(one, statement, (claimers[one], ["other"], 32)) == []
        with one.transaction():
            assert column(one, statement, (claimers[one], ["tiny"], 2)) == ["text 0", "text 1"]
            # Not committed yet: skipped, not waited for.
            assert column(two, statement, (claimers[two], ["other", "tiny"], 2)) == [
                "text 2",
                "text 3",
            ]
        assert column(one, statement, (claimers[one], ["tiny"], 32)) == ["text 4"]


def test_nobody_answers_for_another(texts: Connection, texts_url: str) -> None:
    """An answer counts only from the claimer that has the request."""
    with hanging(texts_url) as worker:
        claimer = claimer_of(worker)
        token = submit(texts, "red apple")
        (request,) = take(worker, claimer)
        assert answer(worker, claimer + 1, [request], [Answer("[4]")]) == 0
        assert fetch(texts, token)[0] == "waiting"


def test_an_abandoned_request_is_gone(texts: Connection, texts_url: str) -> None:
    """Whoever gives up deletes it, and the late answer counts for nothing."""
    with hanging(texts_url) as worker:
        claimer = claimer_of(worker)
        token = submit(texts, "red apple")
        (request,) = take(worker, claimer)
        state = scalar(texts, "select state from pgembed.fetch_request(%s, true)", (token,))
        assert state == "gone"
        assert answer(worker, claimer, [request], [Answer(VECTOR)]) == 0
    assert fetch(texts, uuid4())[0] == "gone"


def test_a_claim_of_a_dead_worker_is_free_again(texts: Connection, texts_url: str) -> None:
    """The next fetch frees it, and wakes the other workers."""
    with hanging(texts_url) as other:
        with hanging(texts_url) as dead:
            token = submit(texts, "red apple")
            assert len(take(dead, claimer_of(dead))) == 1
            assert fetch(texts, token)[0] == "waiting"
            assert take(other, claimer := claimer_of(other)) == []
        other.execute("listen pgembed_request")
        assert fetch(texts, token)[0] == "waiting"
        assert len(list(other.notifies(timeout=2, stop_after=1))) == 1
        assert len(take(other, claimer)) == 1


def test_workers_are_woken(texts: Connection, texts_url: str) -> None:
    """A worker that listens is told of each request."""
    with hanging(texts_url) as worker:
        worker.execute("listen pgembed_request")
        threading.Timer(0.05, submit, (texts, "red apple")).start()
        (notified,) = worker.notifies(timeout=2, stop_after=1)
        assert (notified.channel, notified.payload) == ("pgembed_request", "")


def test_a_worker_is_known_by_its_lock(texts: Connection, texts_url: str) -> None:
    """It lives from serve_encoder to the end of its session, for its encoder alone."""
    lives = "select pgembed.has_encode_worker('tiny'), pgembed.has_encode_worker('other')"
    assert texts.execute(lives).fetchone() == (False, False)
    with hanging(texts_url), hanging(texts_url):
        assert texts.execute(lives).fetchone() == (True, False)
    assert texts.execute(lives).fetchone() == (False, False)
    held = "select count(*) from pg_locks where locktype = 'advisory' and classid = 726104"
    assert scalar(texts, held) == 0
    error = refused(texts, NotFoundError, "select pgembed.serve_encoder('nope')")
    assert "'nope'" in str(error)


def test_old_requests_and_vectors_are_swept(texts: Connection) -> None:
    """Requests after a minute, vectors after their time, and the oldest beyond the size."""
    texts.execute(
        "insert into pgembed.encode_request (encoder, routing_version, mode, query, cache_key, requested_at)"
        " select 'tiny', '', 'soft', n::text, gen_random_uuid(), clock_timestamp() - n * interval '20 s'"
        " from generate_series(1, 5) as n"
    )
    texts.execute(
        "insert into pgembed.encode_cache (cache_key, embedding, encoded_at)"
        " select md5(n::text)::uuid, case when n % 2 = 0 then '[1]'::vector end, now() - n * interval '1 hour'"
        " from generate_series(1, 30) as n"
    )
    assert scalar(texts, "select pgembed.sweep_requests()") == 3 + 7
    assert column(texts, "select query from pgembed.encode_request order by 1") == ["1", "2"]
    assert scalar(texts, "select count(*) from pgembed.encode_cache") == 23
    assert scalar(texts, "select pgembed.sweep_requests(interval '20 hours 30 minutes', 5)") == 18
    oldest = scalar(texts, "select now() - min(encoded_at) from pgembed.encode_cache")
    assert 5 <= oldest.total_seconds() / 3600 < 5.1
    assert scalar(texts, "select pgembed.sweep_requests()") == 0
    assert scalar(texts, "select pgembed.sweep_requests(cache_size => -1)") == 5


def test_a_swept_key_counts_anew(texts: Connection, texts_url: str) -> None:
    """After its time a text must be asked for twice again."""
    with hanging(texts_url) as worker:
        claimer = claimer_of(worker)
        kept = "select count(embedding) from pgembed.encode_cache"
        for expected in (0, 1):
            submit(texts, "red apple")
            answer(worker, claimer, take(worker, claimer), [Answer(VECTOR)])
            assert scalar(texts, kept) == expected
        scalar(texts, "select pgembed.sweep_requests(interval '0')")
        submit(texts, "red apple")
        answer(worker, claimer, take(worker, claimer), [Answer(VECTOR)])
        assert scalar(texts, kept) == 0
