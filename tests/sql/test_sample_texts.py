"""pgembed.sample_texts."""

from __future__ import annotations

from pgembed.database import Connection
from tests.sql.support import column

SAMPLE = "select pgembed.sample_texts('papers', %s, %s, %s)"


def test_a_seed_gives_the_same_parts_of_chunks(shared: Connection) -> None:
    """As many as asked for, as long as asked for, from all places of a text."""
    texts = column(shared, "select content from pgembed_data.papers")
    few = column(shared, SAMPLE, (20, 6, 1))
    assert few == column(shared, SAMPLE, (20, 6, 1))
    assert few != column(shared, SAMPLE, (20, 6, 2))
    assert {len(part) for part in few} == {6}
    assert all(any(part in text for text in texts) for part in few)
    assert not all(any(text.startswith(part) for text in texts) for part in few)
    assert not all(any(text.endswith(part) for text in texts) for part in few)
    assert sorted(column(shared, SAMPLE, (10**6, 10**6, 0))) == sorted(texts)


def test_what_is_blank_is_left_out(shared: Connection) -> None:
    """No encoder would take it."""
    shared.execute("update pgembed_data.papers set content = E' \\n' where id <= 10")
    shared.execute("update pgembed_data.papers set content = '' where id = 11")
    parts = column(shared, SAMPLE, (1000, 80, 0))
    count = "select count(*) from pgembed_data.papers where id > 11"
    assert len(parts) == column(shared, count)[0]
    assert all(part.strip() for part in parts)
