"""The demo, as a newcomer runs it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pgembed.database import connect
from pgembed.schema import current_revision, head_revision


@pytest.mark.slow
@pytest.mark.minilm
@pytest.mark.timeout(900)
def test_the_demo_trains_routes_and_searches(database_url: str, migrated_url: str) -> None:
    """It exits with 0, prints the table and the searches, and leaves everything in step."""
    ran = subprocess.run(
        [sys.executable, "-m", "pgembed", "demo", "--url", migrated_url],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )
    assert ran.returncode == 0, ran.stderr
    header, *rows = [line for line in ran.stdout.splitlines() if line.startswith(("│", "┃"))]
    assert "nDCG@10" in header
    systems = [row.split("│")[1].strip() for row in rows]
    assert systems[0] == "base"
    assert systems[-1] == "routed (soft)"
    assert ran.stdout.count("  route: ") == 3
    with connect(migrated_url) as connection:
        assert current_revision(connection) == head_revision()
        counted = connection.execute(
            "select sum(stale)::int, sum(failed)::int, bool_and(indexed)"
            " from pgembed.collection_status()"
        ).fetchone()
    assert counted == (0, 0, True)
