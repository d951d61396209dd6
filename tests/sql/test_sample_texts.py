"""pgembed.sample_texts."""

from __future__ import annotations

import pytest

from pgembed.database import Connection
from pgembed.errors import InputError
from tests.sql.support import column, refused

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


@pytest.mark.parametrize("numbers", [(0, 80, 0), (-1, 80, 0), (10, 0, 0), (10, -1, 0)])
def test_numbers_below_1_are_refused(shared: Connection, numbers: tuple[int, int, int]) -> None:
    """With the value."""
    refused(shared, InputError, SAMPLE, numbers)
