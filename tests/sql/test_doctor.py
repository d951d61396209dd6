"""pgembed.doctor, and the command of that name."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from pgembed.cli.app import app
from pgembed.database import Connection, connect
from pgembed.diagnosis import Check, diagnose
from tests.databases import url_of
from tests.sql.support import scalar
from tests.sql.texts import Worker, hanging

PAPERS = [f"papers: {what}" for what in ("source", "triggers", "index", "queue", "failures")]


def checks(connection: Connection) -> dict[str, Check]:
    """Every check by its name."""
    rows = connection.execute("select name, verdict, detail, remedy from pgembed.doctor()")
    return {row[0]: Check(*row) for row in rows.fetchall()}


def test_all_is_well(texts: Connection, worker: Worker) -> None:
    """With a worker one text goes through, in some milliseconds; nothing needs a remedy."""
    texts.execute("analyze pgembed_data.papers")
    found = diagnose(texts)
    assert [check.name for check in found] == [
        *("schema", "pgvector", "loopback", "dblink", "loopback role"),
        *("tiny: worker", "tiny: text query"),
        *PAPERS,
        "papers: statistics",
    ]
    assert {check.verdict for check in found} == {"ok"}
    assert {check.remedy for check in found} == {None}
    assert len(worker.asked) == 1
    (role,) = [check for check in found if check.name == "loopback role"]
    assert role.detail.endswith("may hand in and fetch texts, and nothing more")


def test_without_a_worker_it_warns(texts: Connection) -> None:
    """And sends no text."""
    found = checks(texts)
    assert found["tiny: worker"].verdict == "warning"
    assert "pgembed worker" in str(found["tiny: worker"].remedy)
    assert "tiny: text query" not in found


def test_a_worker_that_hangs_fails(texts: Connection, texts_url: str) -> None:
    """The text that comes back not at all is told with its hint."""
    texts.execute("set pgembed.timeout_ms = 100")
    with hanging(texts_url):
        found = checks(texts)["tiny: text query"]
    assert found.verdict == "failed"
    assert "within 100 ms" in found.detail
    assert "pgembed.timeout_ms" in str(found.remedy)


@pytest.mark.parametrize(
    ("harm", "name", "verdict", "said"),
    [
        ("delete from pgembed.loopback", "loopback", "warning", "not set up"),
        (
            "update pgembed.loopback set conninfo = replace(conninfo, 'password=', 'password=x')",
            "loopback",
            "failed",
            "password authentication failed",
        ),
        (
            "do $$ begin execute format('grant select on papers to %I', pgembed.loopback_role()); end $$",
            "loopback role",
            "failed",
            "may read or write papers",
        ),
        (
            "do $$ begin execute format('grant execute on function pgembed.check_loopback() to %I',"
            " pgembed.loopback_role()); end $$",
            "loopback role",
            "failed",
            "may run pgembed.check_loopback()",
        ),
        (
            "do $$ begin execute format('grant pg_read_all_data to %I', pgembed.loopback_role()); end $$",
            "loopback role",
            "failed",
            "member of pg_read_all_data",
        ),
        ("alter table papers rename title to headline", "papers: source", "failed", "title"),
        ("alter table papers disable trigger user", "papers: triggers", "failed", "disabled"),
        (
            "do $$ begin execute format('drop trigger %I on papers', (select min(tgname) from pg_trigger"
            " where tgrelid = 'papers'::regclass and not tgisinternal)); end $$",
            "papers: triggers",
            "failed",
            "lacks a trigger",
        ),
        (
            "update pgembed.collection set capture = 'always'",
            "papers: triggers",
            "failed",
            "papers",
        ),
        (
            "insert into pgembed.change (collection, priority, row_count, keys, changed_at)"
            " values ('papers', 0, 2, '{1,2}', now() - interval '1 hour')",
            "papers: queue",
            "warning",
            "2 rows wait",
        ),
        (
            "update pgembed.collection set paused_at = now()",
            "papers: queue",
            "warning",
            "paused since",
        ),
        (
            "insert into pgembed.failure (collection, key, error, attempts) values ('papers', '1', 'x', 3)",
            "papers: failures",
            "warning",
            "1 rows",
        ),
        (
            "insert into pgembed_data.papers (id, chunk_no, content, span, content_hash, embedding)"
            " select id, n, 'x', '[0,1)', '', array_fill(1, '{32}')::vector from papers, generate_series(100, 160) as n;"
            " drop index pgembed_data.papers_embedding_idx",
            "papers: index",
            "warning",
            "no valid HNSW index",
        ),
        (
            "truncate pgembed_data.papers",
            "papers: statistics",
            "warning",
            "never analysed",
        ),
    ],
)
def test_what_is_wrong_is_told(
    texts: Connection, harm: str, name: str, verdict: str, said: str
) -> None:
    """Each harm makes its check fail or warn, with a remedy."""
    texts.execute("begin")
    texts.execute("analyze pgembed_data.papers")
    texts.execute(harm)
    if name == "papers: statistics":
        texts.execute(
            "update pg_class set reltuples = -1 where oid = 'pgembed_data.papers'::regclass"
        )
    found = checks(texts)[name]
    texts.execute("rollback")
    assert found.verdict == verdict
    assert said in found.detail
    assert found.remedy


def test_the_command_prints_and_exits(texts: Connection, worker: Worker) -> None:
    """Status 0 with a table or json where nothing failed; 1 where something did."""
    url = url_of(texts)
    well = CliRunner().invoke(app, ["doctor", "--url", url])
    assert well.exit_code == 0, well.output
    assert "loopback" in well.output
    texts.execute("alter table papers disable trigger user")
    try:
        ill = CliRunner().invoke(app, ["doctor", "--json", "--url", url])
    finally:
        texts.execute("alter table papers enable trigger user")
    assert ill.exit_code == 1
    (failed,) = [check for check in json.loads(ill.output) if check["verdict"] == "failed"]
    assert failed["name"] == "papers: triggers"
    assert "enable trigger" in failed["remedy"]


def test_another_revision_is_told_alone(texts: Connection) -> None:
    """Without a schema that fits, the first check is the only one."""
    with connect(url_of(texts)) as opened:
        opened.execute("begin")
        opened.execute("update pgembed.alembic_version set version_num = '9999'")
        (only,) = diagnose(opened)
        opened.execute("rollback")
    assert only.verdict == "failed"
    assert "9999" in only.detail
    assert scalar(texts, "select count(*) from pgembed.doctor()") > 5
