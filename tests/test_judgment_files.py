"""Judgments in files: BEIR and TREC in, BEIR out, and what is wrong is told with its line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgembed import judgment_store
from pgembed.database import connect
from pgembed.errors import InputError
from pgembed.judgment_files import read_beir, read_trec, write_beir
from pgembed.judgment_store import load_judgments
from pgembed.model import Judgment
from pgembed.query_files import key_maker
from tests.test_cli import Command, copied, papers_url, pgembed, url  # noqa: F401 - fixtures

QUERIES = [
    {"_id": "q1", "text": "red apple", "metadata": {"domain": "fruit"}},
    {"_id": "q2", "text": "fast\u2028car"},
    {"_id": 3, "text": "deep ocean", "metadata": {}},
]

HEAD = "query-id\tcorpus-id\tscore\n"


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A folder in BEIR's layout with qrels of train, test and another name."""
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in QUERIES)
    (folder / "queries.jsonl").write_text(lines, encoding="utf-8")
    for name, text in {
        "train": HEAD + "q1\t6\t2\nq1\t12\t0\n",
        "test": HEAD + "q2\t8\t1\r\n\n3\t10\t1\n",
        "extra": "3\t16\t1\n",
    }.items():
        (folder / "qrels" / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def test_a_folder_of_beir_is_read(beir: Path) -> None:
    """Splits that are there, domains of the queries, grades of 0, numbers as ids, odd line ends."""
    assert read_beir(beir) == [
        Judgment("red apple", "6", 2, "train", "fruit"),
        Judgment("red apple", "12", 0, "train", "fruit"),
        Judgment("fast\u2028car", "8", 1, "test"),
        Judgment("deep ocean", "10", 1, "test"),
    ]
    assert {j.split for j in read_beir(beir, split="test")} == {"test"}
    assert {j.domain for j in read_beir(beir, domain="d")} == {"d"}


def test_qrels_of_another_name_are_read(beir: Path) -> None:
    """Where their split is said; without a header, as some files have none."""
    (read,) = read_beir(beir, split="dev", qrels="extra")
    assert read == Judgment("deep ocean", "16", 1, "dev")
    with pytest.raises(InputError, match="which split"):
        read_beir(beir, qrels="extra")


def test_splits_that_are_not_there_are_told(beir: Path) -> None:
    """With what is."""
    with pytest.raises(InputError, match=r"cannot read .*dev\.tsv: No such file"):
        read_beir(beir, split="dev")
    for name in ("train", "test"):
        (beir / "qrels" / f"{name}.tsv").unlink()
    with pytest.raises(InputError, match="extra"):
        read_beir(beir)


@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
def test_qrels_of_trec_are_read(tmp_path: Path, suffix: str) -> None:
    """Fields between any blanks; topics of both forms; a quote in a topic is a letter."""
    qrels, topics = tmp_path / "qrels.txt", tmp_path / f"topics.{suffix}"
    qrels.write_text("301 0 FT-1 2\n301\tQ0\tFT-2  -1\n\n302 0 FT-1 1\n")
    rows = {"301": 'say "apple', "302": "car"}
    topics.write_text(
        "".join(
            f"{identity}\t{text}\n"
            if suffix == "tsv"
            else json.dumps({"qid": identity, "query": text}) + "\n"
            for identity, text in rows.items()
        )
    )
    assert read_trec(qrels, topics, domain="news") == [
        Judgment('say "apple', "FT-1", 2, "test", "news"),
        Judgment('say "apple', "FT-2", -1, "test", "news"),
        Judgment("car", "FT-1", 1, "test", "news"),
    ]


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        ("q1\t6\n", "test.tsv:2: needs query-id"),
        ("q1\t6\t1\tx\n", "test.tsv:2: needs query-id"),
        ("q1\t6\t1\n\nq1\t7\thigh\n", "test.tsv:4: the grade 'high'"),
        ("q1\t6\t1.5\n", "test.tsv:2: the grade '1.5'"),
        ("q1\t6\t2147483648\n", "test.tsv:2: the grade"),
        ("q9\t6\t1\n", "test.tsv:2: query 'q9' is not in"),
        ("q1\t6\t1\nq1\t6\t2\n", "test.tsv:3: document '6'.* 1 in .*test.tsv:2"),
        ("q1\t6\0\t1\n", "test.tsv:2: holds a NUL"),
        ('q1\t"6\t1\n', "test.tsv:2: .*"),
    ],
)
def test_bad_qrels_are_told_with_their_line(beir: Path, qrels: str, said: str) -> None:
    """Rather than skipped."""
    (beir / "qrels" / "test.tsv").write_text(HEAD + qrels)
    with pytest.raises(InputError, match=said):
        read_beir(beir)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"_id": "q4", "text": " "}', "queries.jsonl:4: the text of query 'q4' is blank"),
        ('{"_id": "q4"', "queries.jsonl:4: not a line of json"),
        ('["q4", "text"]', "queries.jsonl:4: a query is a json object"),
        ('{"_id": "q4", "text": 7}', "queries.jsonl:4: a query has an id"),
        ('{"_id": true, "text": "x"}', "queries.jsonl:4: a query has an id"),
        ('{"_id": "q4", "text": "a\\u0000b"}', "queries.jsonl:4: holds a NUL"),
        ('{"_id": "q4", "text": "a\\ud800b"}', "queries.jsonl:4: holds a lone surrogate"),
        ('{"_id": "q1", "text": "other"}', "queries.jsonl:4: query 'q1' was there before"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "queries.jsonl:4: not UTF-8"),
    ],
)
def test_bad_queries_are_told_with_their_line(beir: Path, line: str, said: str) -> None:
    """Whether judged or not."""
    with (beir / "queries.jsonl").open("ab") as file:
        file.write(line.encode("latin-1"))
    with pytest.raises(InputError, match=said):
        read_beir(beir)


def test_bad_topics_are_told_with_their_line(tmp_path: Path) -> None:
    """Lines without a tab, qrels of too few fields."""
    qrels, topics = tmp_path / "qrels", tmp_path / "topics.tsv"
    qrels.write_text("301 0 FT-1\n")
    topics.write_text("301 text\n")
    with pytest.raises(InputError, match=r"topics\.tsv:1: a query is an id"):
        read_trec(qrels, topics)
    topics.write_text("301\ttext\n")
    with pytest.raises(InputError, match="qrels:1: needs query, 0"):
        read_trec(qrels, topics)


def test_keys_are_made_of_ids() -> None:
    """As they are, in a text, or in a key of several columns as the database writes it."""
    assert key_maker(None)("a{}") == "a{}"
    assert key_maker("doc-{}/x")("7") == "doc-7/x"
    assert key_maker('["set", "{}"]')('say "é"') == '["set", "say \\"é\\""]'
    for wrong in ("doc", "{} {}", '["set"]', "[{}]", '["{}", 1]'):
        with pytest.raises(InputError, match="key format"):
            key_maker(wrong)


texts = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=8
)
judged = st.builds(
    Judgment,
    query=texts.filter(str.strip),
    key=texts,
    grade=st.integers(-2, 3),
    split=st.sampled_from(["train", "dev", "test"]),
    domain=st.sampled_from(["", "d", '<"é\t>']),
)


@settings(max_examples=60)
@given(judgments=st.lists(judged, max_size=8, unique_by=lambda j: (j.query, j.key)))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, judgments: Sequence[Judgment]
) -> None:
    """Whatever texts and keys hold: quotes, tabs, line ends."""
    folder = tmp_path_factory.mktemp("written")
    write_beir(folder, judgments)
    if judgments:
        assert sorted(read_beir(folder), key=repr) == sorted(judgments, key=repr)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """As a sentence."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write into .*file"):
        write_beir(tmp_path / "file", [Judgment("q", "k")])


# In the database.


def test_files_are_loaded_listed_and_exported(
    pgembed: Command,  # noqa: F811
    papers_url: str,  # noqa: F811
    beir: Path,
    tmp_path: Path,
) -> None:
    """Twice changes nothing; an export loaded again is the same; nothing is overwritten."""
    for _ in range(2):
        answer = pgembed("judgments", "load", "papers", str(beir), url=papers_url)
        assert answer.status == 0
        assert "4 judgments of 3 queries are in papers." in answer.out
        assert "unknown" not in answer.out
    listed = pgembed("judgments", "list", "papers", "--json", url=papers_url).json
    counts = {
        (c["domain"], c["split"]): (c["queries"], c["judgments"], c["relevant"]) for c in listed
    }
    assert counts == {("", "test"): (2, 2, 2), ("fruit", "train"): (1, 2, 1)}
    assert "fruit" in pgembed("judgments", "list", "papers", url=papers_url).out
    out = tmp_path / "out"
    answer = pgembed("judgments", "export", "papers", str(out), url=papers_url)
    assert "4 judgments are in" in answer.out
    assert sorted(read_beir(out), key=repr) == sorted(read_beir(beir), key=repr)
    again = pgembed("judgments", "export", "papers", str(out), url=papers_url)
    assert again.status == 1
    assert "exists already" in again.err


def test_keys_of_no_row_are_counted_and_kept(
    pgembed: Command,  # noqa: F811
    papers_url: str,  # noqa: F811
    beir: Path,
) -> None:
    """The table may be filled later."""
    arguments = ("judgments", "load", "papers", str(beir), "--key-format", "doc-{}")
    answer = pgembed(*arguments, url=papers_url)
    assert answer.status == 0
    assert "4 keys are those of no embedded row, for instance doc-10" in answer.out
    loaded = pgembed(*arguments, "--json", url=papers_url).json
    assert loaded["unknown"] == 4
    assert loaded["unknown_keys"] == ["doc-10", "doc-12", "doc-6", "doc-8"]


def test_lines_of_one_query_and_key_are_told(
    pgembed: Command,  # noqa: F811
    papers_url: str,  # noqa: F811
    beir: Path,
) -> None:
    """Two folders with the same judgments: the last counts, and it is said."""
    answer = pgembed("judgments", "load", "papers", str(beir), str(beir), url=papers_url)
    assert "(4 more lines judge the same query and key: the last counts)" in answer.out


def test_trec_files_are_loaded(pgembed: Command, papers_url: str, tmp_path: Path) -> None:  # noqa: F811
    """Two files; one alone is explained."""
    qrels, topics = tmp_path / "qrels", tmp_path / "topics.tsv"
    qrels.write_text("1 0 6 1\n1 0 12 2\n")
    topics.write_text("1\tred apple\n")
    load = ("judgments", "load", "papers", str(qrels))
    answer = pgembed(*load, str(topics), "--format", "trec", "--split", "dev", url=papers_url)
    assert "2 judgments of 1 queries" in answer.out
    answer = pgembed(*load, "--format", "trec", url=papers_url)
    assert answer.status == 1
    assert "the qrels and the queries" in answer.err


def test_an_error_in_a_file_changes_nothing(
    pgembed: Command,  # noqa: F811
    papers_url: str,  # noqa: F811
    beir: Path,
) -> None:
    """All is read before anything is written."""
    with (beir / "qrels" / "test.tsv").open("a") as file:
        file.write("q1\t6\n")
    answer = pgembed("judgments", "load", "papers", str(beir), url=papers_url)
    assert answer.status == 1
    assert "test.tsv:5" in answer.err
    assert pgembed("judgments", "list", "papers", "--json", url=papers_url).json == []
    answer = pgembed("judgments", "export", "papers", str(beir / "x"), url=papers_url)
    assert "no judgments" in answer.err
    assert pgembed("judgments", "list", "nope", url=papers_url).status == 1


def test_an_interrupted_load_is_completed(
    papers_url: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Block by block; the next call finds what is there and adds the rest."""
    monkeypatch.setattr(judgment_store, "BLOCK", 10)
    judgments = [Judgment(f"number {n}", str(n), split="test") for n in range(1, 31)]

    def stop(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with connect(papers_url) as connection:
        with pytest.raises(KeyboardInterrupt):
            load_judgments(connection, "papers", judgments, on_progress=stop)
        (count,) = judgment_store.count_judgments(connection, "papers")
        assert count.judgments == 20
        load_judgments(connection, "papers", judgments)
        assert judgment_store.stored_judgments(connection, "papers") == sorted(
            judgments, key=lambda j: j.query
        )
