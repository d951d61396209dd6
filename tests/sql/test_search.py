"""pgembed.search."""

from pgembed.database import Connection


def test_search_returns_k_rows(papers: Connection) -> None:
    """Ten hits come back, ranked from 1."""
    rows = papers.execute(
        "select key, rank, score from pgembed.search('papers',"
        " (select embedding::vector from pgembed_data.papers where id = 6)) order by rank"
    ).fetchall()
    assert [rank for _, rank, _ in rows] == list(range(1, 11))
    assert rows[0][0] == "6"
