"""pgembed.create_collection, and the triggers that it puts on the source."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgembed.database import Connection, connect
from pgembed.errors import InputError, NotFoundError, SourceError
from tests.databases import url_of
from tests.sql.support import (
    clear_queue,
    column,
    create_collection,
    embed,
    refused,
    register_plain_encoder,
    scalar,
    stale_keys,
)

CREATE = "select pgembed.create_collection('made', 'made', '{body}', 'tiny'"


def make_source(connection: Connection, key: str, values: str) -> None:
    """Table ``made`` with this definition of its key, and two rows."""
    connection.execute(f"create table made ({key}, body text)")
    connection.execute(f"insert into made values {values}")


def search_keys(connection: Connection, collection: str) -> list[str]:
    """Keys of all rows that a search finds, sorted."""
    return sorted(
        column(
            connection,
            "select key from pgembed.search(%s, array_fill(1, '{32}')::vector, 1000)",
            (collection,),
        )
    )


@pytest.mark.parametrize(
    ("key", "values", "keys"),
    [
        ("id bigint primary key", "(9000000000, 'a'), (-1, 'b')", ["-1", "9000000000"]),
        ("id text primary key", "('a''b', 'a'), ('\\', 'b')", ["\\", "a'b"]),
        (
            "id uuid primary key",
            "('00000000-0000-0000-0000-00000000000A', 'a'), ('00000000-0000-0000-0000-00000000000b', 'b')",
            ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"],
        ),
        ("id numeric(6, 2) primary key", "(1, 'a'), (2.5, 'b')", ["1.00", "2.50"]),
        (
            "id date primary key",
            "('2020-01-31', 'a'), ('infinity', 'b')",
            ["2020-01-31", "infinity"],
        ),
        ("id float8 primary key", "(0.1, 'a'), (1e300, 'b')", ["0.1", "1e+300"]),
        (
            "id inet primary key",
            "('10.0.0.1', 'a'), ('10.0.0.0/8', 'b')",
            ["10.0.0.0/8", "10.0.0.1"],
        ),
        ("id bytea primary key", "('\\x00', 'a'), ('\\xff27', 'b')", ["\\x00", "\\xff27"]),
        ("id text[] primary key", "('{a,\"b c\"}', 'a'), ('{}', 'b')", ['{a,"b c"}', "{}"]),
        (
            'a int, "B c" text, primary key ("B c", a)',
            "(1, 'x', 'a'), (2, 'y', 'b')",
            ['["x", "1"]', '["y", "2"]'],
        ),
        ("content text primary key", "('a', 'a'), ('b', 'b')", ["a", "b"]),
        ("chunk_no int primary key", "(1, 'a'), (2, 'b')", ["1", "2"]),
        (
            "span int, embedding text, encoded_at int, primary key (span, embedding, encoded_at)",
            "(1, 'x', 2, 'a'), (3, 'y', 4, 'b')",
            ['["1", "x", "2"]', '["3", "y", "4"]'],
        ),
        ("key text primary key", "('a', 'a'), ('b', 'b')", ["a", "b"]),
        ('id text collate "POSIX" primary key', "('a', 'a'), ('B', 'b')", ["B", "a"]),
    ],
)
def test_keys_of_any_type(shared: Connection, key: str, values: str, keys: list[str]) -> None:
    """Rows under keys of this type become stale, are embedded, found, changed and deleted."""
    make_source(shared, key, values)
    create_collection(shared, "made", "made", ["body"])
    assert stale_keys(shared, "made") == keys
    assert embed(shared, "made") == 2
    assert search_keys(shared, "made") == keys
    shared.execute("update made set body = 'changed' where body = 'a'")
    assert len(stale_keys(shared, "made")) == 1
    assert embed(shared, "made") == 1
    assert search_keys(shared, "made") == keys
    shared.execute("delete from made where body = 'changed'")
    assert len(search_keys(shared, "made")) == 1


def test_side_columns_are_of_the_source_s_types(shared: Connection) -> None:
    """Type, modifier and collation are those of the source's key, so that joins use its index."""
    make_source(
        shared, 'a varchar(7) collate "C", b numeric(5, 2), primary key (a, b)', "('x', 1, 'y')"
    )
    create_collection(shared, "made", "made", ["body"])
    rows = shared.execute(
        "select format_type(atttypid, atttypmod), attcollation::regcollation::text from pg_attribute"
        " where attrelid = 'pgembed_data.made'::regclass and attname in ('a', 'b') order by attname"
    ).fetchall()
    assert rows == [("character varying(7)", '"C"'), ("numeric(5,2)", "-")]


HOSTILE = 'x"; drop table papers; --'


@pytest.mark.parametrize(
    "name", [HOSTILE, "x'; drop table papers; --", "%s %I", "Über Größe", " ", "\\"]
)
def test_names_of_any_kind(shared: Connection, name: str) -> None:
    """Schemas, tables, columns and collections may be called anything."""
    quoted = scalar(shared, "select quote_ident(%s)", (name,)).replace("%", "%%")
    shared.execute(f"create schema {quoted}", ())
    shared.execute(f"create table {quoted}.{quoted} ({quoted} text primary key, body text)", ())
    shared.execute(f"insert into {quoted}.{quoted} values (%s, 'text')", (name,))
    create_collection(
        shared, name, f"{quoted}.{quoted}".replace("%%", "%"), [name, "body"], language="simple"
    )
    assert stale_keys(shared, name) == [name]
    embed(shared, name)
    assert search_keys(shared, name) == [name]
    rows = shared.execute("select key, chunk_no from pgembed.chunks(%s)", (name,)).fetchall()
    assert rows == [(name, 0)]
    shared.execute(f"update {quoted}.{quoted} set {quoted} = %s || '2'", (name,))
    assert stale_keys(shared, name) == [f"{name}2"]
    shared.execute("select pgembed.build_index(%s)", (name,))
    shared.execute("select pgembed.drop_collection(%s)", (name,))
    assert scalar(shared, "select count(*) from papers") == 60


def test_content_is_the_columns_a_line_each(shared: Connection) -> None:
    """Columns are joined in the given order; empty ones leave no line; other types are texts."""
    shared.execute("create table made (id int primary key, a text, n numeric, f boolean, b text)")
    shared.execute(
        "insert into made values (1, 'one', 2.50, true, 'two'), (2, '', null, null, 'b'),"
        " (3, null, null, null, null)"
    )
    create_collection(shared, "made", "made", ["b", "n", "a"])
    rows = shared.execute("select content from pgembed.claim('made', 1) order by key").fetchall()
    assert [row[0] for row in rows] == ["two\n2.50\none", "b", ""]


def test_defaults_come_from_the_encoder(shared: Connection) -> None:
    """Chunks are as long as the encoder takes, an eighth overlaps; the key is the primary key."""
    register_plain_encoder(shared, max_tokens=80)
    make_source(shared, "id int primary key", "(1, 'a')")
    create_collection(shared, "made", "made", ["body"], encoder="plain")
    row = shared.execute(
        "select max_tokens, overlap, language, key_columns from pgembed.describe_collection('made')"
    ).fetchone()
    assert row == (80, 10, "english", ["id"])


def test_bounds_of_chunks_are_checked(shared: Connection) -> None:
    """max_tokens and overlap outside what the encoder takes are refused with what it takes."""
    make_source(shared, "id int primary key", "(1, 'a')")
    for option, said in {
        "max_tokens => 7": "8 to 128",
        "max_tokens => 129": "8 to 128",
        "overlap => -1": "0 to 127",
        "overlap => 128": "0 to 127",
        "max_tokens => 16, overlap => 16": "0 to 15",
    }.items():
        assert said in str(refused(shared, InputError, f"{CREATE}, {option})"))
    shared.execute(f"{CREATE}, max_tokens => 16, overlap => 15)")


def test_a_source_needs_a_key(shared: Connection) -> None:
    """Without a primary key the error says what to add; a unique index over named columns serves."""
    make_source(shared, "a int not null, b text not null, c int", "(1, 'x', null, 'a')")
    error = refused(shared, SourceError, f"{CREATE})")
    assert "made has no primary key" in str(error)
    assert "add primary key" in str(error.hint)
    for key in ("{a,b}", "{c}", "{nope}", "{}"):
        assert "no unique index" in str(refused(shared, SourceError, f"{CREATE}, key => '{key}')"))
    shared.execute("create unique index on made (b, a)")
    shared.execute("create unique index on made (c)")
    for key in ("{c}", "{a}", "{a,a}", "{a,b,b}", "{a,b,c}"):
        refused(shared, SourceError, f"{CREATE}, key => '{key}')")
    shared.execute(f"{CREATE}, key => '{{a,b}}')")
    embed(shared, "made")
    assert search_keys(shared, "made") == ['["1", "x"]']


def test_indexes_that_are_no_keys(shared: Connection) -> None:
    """Partial, expression and deferrable indexes do not identify a row."""
    make_source(
        shared, "a int not null, b int not null, c int not null unique deferrable", "(1, 2, 3, 'x')"
    )
    shared.execute("create unique index on made (a) where a > 0")
    shared.execute("create unique index on made ((b + 1))")
    for key in "abc":
        refused(shared, SourceError, f"{CREATE}, key => '{{{key}}}')")


def test_only_lasting_tables_serve(shared: Connection) -> None:
    """Views, temporary and unlogged tables and partitions are refused with what to use instead."""
    shared.execute("create view a_view as select * from papers")
    shared.execute("create materialized view a_copy as select * from papers")
    shared.execute("create temporary table for_now (id int primary key, title text)")
    shared.execute("create unlogged table quick (id int primary key, title text)")
    shared.execute("create table parent (id int primary key, title text) partition by range (id)")
    shared.execute("create table part partition of parent for values from (0) to (9)")
    for source, hint in {
        "a_view": "table below it",
        "a_copy": "table below it",
        "for_now": "lasts",
        "quick": "set logged",
        "part": "partitioned table",
        "pg_class_oid_index": "table",
    }.items():
        error = refused(
            shared,
            SourceError,
            "select pgembed.create_collection('made', %s::text::regclass, '{title}', 'tiny')",
            (source,),
        )
        assert source in str(error)
        assert hint in str(error.hint)


def test_missing_things_are_named(shared: Connection) -> None:
    """Unknown column, encoder and language: the error names it and lists what exists."""
    make_source(shared, "id int primary key", "(1, 'a')")
    error = refused(shared, SourceError, CREATE.replace("{body}", "{body,nope,Body}") + ")")
    assert 'nope, "Body"' in str(error)
    assert "id, body" in str(error.hint)
    error = refused(shared, NotFoundError, CREATE.replace("tiny", "nope") + ")")
    assert "'tiny'" in str(error.hint)
    for language in ("klingon", "", "a.b", "a.b.c", "a.b.c.d", "-", "0", "99999", "eng lish"):
        error = refused(shared, InputError, f"{CREATE}, language => %s)", (language,))
        assert f"'{language}'" in str(error)
    for content in ("null", "'{}'", "array[null]", "'{body,null}'"):
        statement = CREATE.replace("'{body}'", content) + ")"
        assert "id, body" in str(refused(shared, InputError, statement).hint)


def test_missing_table_is_postgresql_s_error(shared: Connection) -> None:
    """A name that is no table is refused before anything is made."""
    with pytest.raises(Exception, match='relation "nope" does not exist'), shared.transaction():
        create_collection(shared, "made", "nope", ["body"])


def test_names_are_unique_and_short(shared: Connection) -> None:
    """1 to 56 bytes, each once; a table in the way is not touched."""
    make_source(shared, "id int primary key", "(1, 'a')")
    for name in ("", "x" * 57, "\u00fc" * 29, None):
        statement = "select pgembed.create_collection(%s, 'made', '{body}', 'tiny')"
        assert "56 bytes" in str(refused(shared, InputError, statement, (name,)))
    for name in ("x" * 56, "\u00fc" * 28):
        create_collection(shared, name, "made", ["body"])
    assert stale_keys(shared, "x" * 56) == stale_keys(shared, "\u00fc" * 28) == ["1"]
    error = refused(shared, InputError, CREATE.replace("'made', 'made'", "'papers', 'made'") + ")")
    assert "drop_collection('papers')" in str(error.hint)
    shared.execute("create table pgembed_data.made (important text)")
    assert "belongs to no collection" in str(refused(shared, InputError, f"{CREATE})"))


def test_several_collections_on_one_table(shared: Connection) -> None:
    """Each notices its own content, and goes without the other."""
    create_collection(shared, "titles", "papers", ["title"])
    create_collection(shared, "topics", "papers", ["topic"])
    clear_queue(shared)
    shared.execute("update papers set topic = 'z' where id = 1")
    shared.execute("insert into papers values (61, 'new')")
    assert stale_keys(shared, "titles") == ["61"]
    assert stale_keys(shared, "topics") == ["1", "61"]
    shared.execute("select pgembed.drop_collection('titles')")
    shared.execute("update papers set topic = 'y' where id = 2")
    assert stale_keys(shared, "topics") == ["1", "2", "61"]


def test_writes_of_all_kinds_are_noticed(shared: Connection) -> None:
    """Insert, update, upsert, merge and COPY enqueue what they changed, in their transaction."""
    shared.execute("insert into papers (id, title) values (61, 'a'), (62, 'b')")
    assert stale_keys(shared, "papers") == ["61", "62"]
    clear_queue(shared)
    shared.execute("update papers set abstract = 'changed' where id in (3, 4)")
    assert stale_keys(shared, "papers") == ["3", "4"]
    clear_queue(shared)
    shared.execute(
        "insert into papers (id, title) values (1, 'changed'), (63, 'new')"
        " on conflict (id) do update set title = excluded.title"
    )
    assert stale_keys(shared, "papers") == ["1", "63"]
    clear_queue(shared)
    shared.execute(
        "merge into papers as p using (values (2, 'changed'), (64, 'new')) as v (id, title)"
        " on v.id = p.id when matched then update set title = v.title"
        " when not matched then insert (id, title) values (v.id, v.title)"
    )
    assert stale_keys(shared, "papers") == ["2", "64"]
    clear_queue(shared)
    with shared.cursor() as cursor, cursor.copy("copy papers (id, title) from stdin") as copy:
        copy.write_row((65, "copied"))
    assert stale_keys(shared, "papers") == ["65"]


def test_writes_that_change_no_content_are_not(shared: Connection) -> None:
    """Another column, the same value, no row: nothing to embed."""
    shared.execute("update papers set year = 1999, topic = null, price = price + 1")
    shared.execute("update papers set title = title, abstract = abstract")
    shared.execute("update papers set title = 'x' where false")
    shared.execute("insert into papers select * from papers where false")
    assert stale_keys(shared, "papers") == []


def test_a_deleted_row_is_gone_at_once(shared: Connection) -> None:
    """Its chunks go in the deleting transaction; nothing needs to be embedded."""
    assert "6" in search_keys(shared, "papers")
    shared.execute("delete from papers where id = 6")
    assert "6" not in search_keys(shared, "papers")
    shared.execute("truncate papers cascade")
    assert search_keys(shared, "papers") == []


def test_a_changed_key_is_followed(shared: Connection) -> None:
    """The chunks move along, and need no encoder when the text is the same."""
    shared.execute("update papers set id = 600 where id = 6")
    assert "600" in search_keys(shared, "papers")
    assert "6" not in search_keys(shared, "papers")
    shared.execute("update papers set id = id + 1000")
    assert search_keys(shared, "papers") == sorted(column(shared, "select id::text from papers"))


def test_a_value_that_changes_and_returns(shared: Connection) -> None:
    """Two changes of one transaction leave the row in the queue once."""
    shared.execute("update papers set title = title || 'x' where id = 1")
    shared.execute("update papers set title = rtrim(title, 'x') where id = 1")
    assert stale_keys(shared, "papers") == ["1"]


@pytest.mark.parametrize("change", ["drop abstract cascade", "rename abstract to summary"])
def test_a_lost_content_column_leaves_the_writer_alone(shared: Connection, change: str) -> None:
    """The user's writes go on; claim says what is missing, and set_content repairs it."""
    shared.execute(f"alter table papers {change.replace('drop', 'drop column')}")
    shared.execute("update papers set year = 1 where id = 5")
    shared.execute("insert into papers (id, title) values (61, 'a')")
    error = refused(shared, SourceError, "select pgembed.claim('papers', 1)")
    assert "abstract" in str(error)
    assert "set_content('papers'" in str(error.hint)
    content = "{title,summary}" if "rename" in change else "{title}"
    shared.execute("select pgembed.set_content('papers', %s)", (content,))
    clear_queue(shared)
    shared.execute("update papers set year = 2")
    assert stale_keys(shared, "papers") == []
    shared.execute("update papers set title = 'x' where id = 5")
    assert stale_keys(shared, "papers") == ["5"]


def test_a_renamed_key_leaves_the_writer_alone(shared: Connection) -> None:
    """The user's writes go on; search says that the key is lost, and how to get it back."""
    shared.execute("alter table papers rename id to ident")
    shared.execute("update papers set title = 'x' where ident = 5")
    shared.execute("insert into papers (ident, title) values (61, 'a')")
    shared.execute("delete from papers where ident = 7")
    error = refused(shared, SourceError, "select pgembed.claim('papers', 1)")
    assert "no column id" in str(error)
    assert "mark_stale('papers')" in str(error.hint)
    shared.execute("alter table papers rename ident to id")
    assert scalar(shared, "select pgembed.mark_stale('papers')") == 60
    assert embed(shared, "papers") == 60


def test_a_generated_column_is_content(shared: Connection) -> None:
    """A stored and, where PostgreSQL has them, a virtual column are noticed when they change."""
    kinds = ["stored"]
    if scalar(shared, "select current_setting('server_version_num')::int") >= 180000:
        kinds.append("virtual")
    for kind in kinds:
        shared.execute(
            f"create table {kind}_text (id int primary key, a text, b text,"
            f" body text generated always as (a || ' ' || b) {kind})"
        )
        shared.execute(f"insert into {kind}_text (id, a, b) values (1, 'x', 'y'), (2, 'p', 'q')")
        create_collection(shared, kind, f"{kind}_text", ["body"])
        contents = column(shared, "select content from pgembed.claim(%s, 1)", (kind,))
        assert sorted(contents) == ["p q", "x y"]
        clear_queue(shared)
        shared.execute(f"update {kind}_text set a = 'changed' where id = 2")
        assert stale_keys(shared, kind) == ["2"]


def test_a_partitioned_table(shared: Connection) -> None:
    """Rows written through the parent, to a partition, or moved between them are noticed."""
    shared.execute(
        "create table made (id int primary key, body text, n int) partition by range (id)"
    )
    shared.execute("create table low partition of made for values from (0) to (10)")
    create_collection(shared, "made", "made", ["body"])
    shared.execute("insert into made values (1, 'a'), (2, 'b')")
    assert embed(shared, "made") == 2
    # A partition that comes later, with its columns in another order.
    shared.execute("create table high (n int, body text, id int not null)")
    shared.execute("alter table made attach partition high for values from (10) to (20)")
    shared.execute("insert into high values (0, 'c', 11)")
    shared.execute("insert into low values (3, 'd')")
    assert stale_keys(shared, "made") == ["11", "3"]
    embed(shared, "made")
    assert search_keys(shared, "made") == ["1", "11", "2", "3"]
    shared.execute("update high set n = 5")
    shared.execute("update made set n = 5")
    assert stale_keys(shared, "made") == []
    shared.execute("update low set body = 'x' where id = 1")
    shared.execute("update made set id = 12 where id = 2")
    assert stale_keys(shared, "made") == ["1", "12"]
    embed(shared, "made")
    assert search_keys(shared, "made") == ["1", "11", "12", "3"]
    shared.execute("select pgembed.drop_collection('made')")
    shared.execute("insert into made values (4, 'e')")
    ours = "select count(*) from pg_trigger where tgfoid = 'pgembed.capture_changes'::regproc"
    assert scalar(shared, f"{ours} and tgrelid in ('made'::regclass, 'low'::regclass)") == 0


@pytest.fixture
def writer(shared: Connection) -> Connection:
    """A role that may write to ``papers`` and knows nothing of pgembed."""
    shared.execute("create role pgembed_test_writer")
    shared.execute("grant select, insert, update, delete on papers to pgembed_test_writer")
    shared.execute("set local role pgembed_test_writer")
    return shared


def test_writers_need_no_rights_of_ours(writer: Connection) -> None:
    """A role without any right on our schemas writes as before, and its changes are noticed."""
    writer.execute("insert into papers (id, title) values (61, 'a')")
    writer.execute("update papers set title = 'b' where id in (1, 2)")
    writer.execute("delete from papers where id = 3")
    writer.execute("update papers set id = 400 where id = 4")
    with pytest.raises(Exception, match="permission denied"), writer.transaction():
        writer.execute("select * from pgembed.stale")
    writer.execute("reset role")
    assert stale_keys(writer, "papers") == ["1", "2", "400", "61"]


def test_writers_settings_do_not_matter(shared: Connection) -> None:
    """Keys are written one way, whatever search path, dates and time zone the writer has."""
    shared.execute("create table made (at timestamptz primary key, body text)")
    create_collection(shared, "made", "made", ["body"])
    shared.execute("create schema decoy")
    shared.execute("create table decoy.stale (collection text, key text)")
    shared.execute("create table decoy.new_rows (at text, body text)")
    for name, value in {
        "search_path": "decoy, public",
        "timezone": "Asia/Tokyo",
        "datestyle": "SQL, DMY",
        "role": "none",
    }.items():
        shared.execute("select set_config(%s, %s, true)", (name, value))
    shared.execute("insert into public.made values ('2020-02-01 00:00+00', 'a')")
    assert stale_keys(shared, "made") == ["2020-02-01 00:00:00+00"]
    assert scalar(shared, "select count(*) from decoy.stale") == 0


def test_the_trigger_runs_no_code_of_the_owner(shared: Connection) -> None:
    """The owner of a source cannot have a cast of his run with the rights of pgembed's owner."""
    shared.execute("create role pgembed_test_owner")
    shared.execute("create schema his authorization pgembed_test_owner")
    shared.execute("set local role pgembed_test_owner")
    shared.execute("create table his.made (id int primary key, body text)")
    shared.execute("reset role")
    create_collection(shared, "made", "his.made", ["body"])
    shared.execute("set local role pgembed_test_owner")
    shared.execute("create table his.loot (taken_as text)")
    shared.execute("create type his.odd as (a text)")
    shared.execute(
        "create function his.steal(his.odd) returns text language plpgsql as"
        " $$begin insert into his.loot values (current_user); return 'x'; end$$"
    )
    shared.execute("create cast (his.odd as text) with function his.steal(his.odd)")
    shared.execute("grant all on schema his to public")
    shared.execute("grant all on his.loot to public")
    shared.execute("alter table his.made alter body type his.odd using row (body)")
    shared.execute("insert into his.made values (1, row ('a'))")
    shared.execute("update his.made set body = row ('b')")
    shared.execute("reset role")
    assert column(shared, "select taken_as from his.loot") == []
    assert stale_keys(shared, "made") == ["1"]
    assert column(shared, "select content from pgembed.claim('made', 1)") == ["(b)"]
    assert column(shared, "select taken_as from his.loot") == []


def test_triggers_cannot_be_borrowed(writer: Connection) -> None:
    """A role without rights cannot put our trigger on a table of its own."""
    writer.execute("create temporary table mine (id int primary key, title text, abstract text)")
    with pytest.raises(Exception, match="permission denied"), writer.transaction():
        writer.execute(
            "create trigger t after insert on mine referencing new table as new_rows"
            " for each statement execute function pgembed.capture_changes('papers')"
        )


def test_a_renamed_table_is_followed(shared: Connection) -> None:
    """The source may be renamed or moved to another schema."""
    shared.execute("create schema archive")
    shared.execute('alter table papers rename to "Old papers"')
    shared.execute('alter table "Old papers" set schema archive')
    shared.execute("update archive.\"Old papers\" set title = 'x' where id = 5")
    assert stale_keys(shared, "papers") == ["5"]
    assert embed(shared, "papers") == 1
    source: Any = scalar(shared, "select source from pgembed.describe_collection('papers')")
    assert source == 'archive."Old papers"'


def test_an_old_snapshot_is_refused(papers: Connection) -> None:
    """In a repeatable read transaction rows of others could be missed, so none is created."""
    papers.execute("create table later (id int primary key, body text)")
    with papers.transaction():
        papers.execute("set transaction isolation level repeatable read")
        with pytest.raises(psycopg.Error) as refusal, papers.transaction():
            papers.execute("select pgembed.create_collection('later', 'later', '{body}', 'tiny')")
        assert refusal.value.sqlstate == "PGE03"


def test_inheritance_is_refused(papers: Connection) -> None:
    """A table with children by inheritance has no key over all its rows."""
    papers.execute("create table parent (id int primary key, body text)")
    papers.execute("create table child () inherits (parent)")
    with pytest.raises(psycopg.Error, match="inheritance") as refusal:
        papers.execute("select pgembed.create_collection('parent', 'parent', '{body}', 'tiny')")
    assert refusal.value.sqlstate == "PGE05"


def test_a_writer_with_an_older_snapshot_is_noticed(papers: Connection) -> None:
    """In repeatable read the collection may be newer than what the writer sees of it."""
    papers.execute("create table notes (id bigint primary key, body text, other text)")
    papers.execute("insert into notes values (1, 'green pear', 'old')")
    with connect(url_of(papers)) as writer:
        writer.execute("begin isolation level repeatable read")
        writer.execute("select 1 from papers limit 1")
        create_collection(papers, "notes", "notes", ["body"])
        writer.execute("insert into notes values (2, 'red apple', 'x')")
        writer.execute("commit")
        assert stale_keys(papers, "notes") == ["1", "2"]
        clear_queue(papers)
        writer.execute("begin isolation level repeatable read")
        writer.execute("select 1 from papers limit 1")
        papers.execute("select pgembed.set_content('notes', '{other}')")
        clear_queue(papers)
        writer.execute("update notes set other = 'blue ocean' where id = 1")
        writer.execute("commit")
    assert stale_keys(papers, "notes") == ["1"]
