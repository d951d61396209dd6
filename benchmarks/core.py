"""Speed of encoding, ingest and routing, beside peers in one run; writes results/core.json.

Figures are CPU time (of this process, and of the server's backend where it works for a query),
because it depends least on what else a machine does. Ratios are medians over alternating rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.data import RESULTS, open_database, read_set, require_shared, server
from pgembed.batches import (
    BATCH_ROWS,
    LEASE,
    Claimed,
    Prepared,
    _claim,
    _write,
    claiming,
    content_hash,
    make_staging,
)
from pgembed.collections import create_collection, search_target
from pgembed.copying import ChunkRow
from pgembed.database import Connection
from pgembed.encoders import open_encoder
from pgembed.encoders.minilm import weights_folder
from pgembed.experts import register_expert
from pgembed.linear_expert import LinearExpert
from pgembed.registry import register_encoder
from pgembed.searching import search
from pgembed.syncing import sync

DATABASE = "pgembed_benchmark_core"
SETS = ("scifact", "nl2bash", "cuad_clauses", "fin10k", "debatepedia", "conala")
DOCUMENTS = 100
"""Of each set, for the encoders."""
TOKEN_MFLOP, ATTENTION_FLOP = 21.2, 9_216
"""What a token costs in this model: a constant, and a part that grows with the text's length."""
CHUNKS = 20_000
"""For ingest."""
ABSTRACTS = 500
"""To search in, for routing."""
EXPERTS = 9
"""Eight domains and a general one."""
ROUNDS = 5

PEERS = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
"""langchain-postgres pins an older pgvector, so it lives apart; make bench installs it there."""

console = Console()


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds that this process, all its threads, spends on a piece of work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def encoding() -> dict[str, Any]:
    """Documents per CPU-second against sentence-transformers, same weights and texts, fp32."""
    from sentence_transformers import SentenceTransformer

    texts = [
        f"{document.title} {document.body}".strip()
        for name in SETS
        for document in read_set(name).documents[:DOCUMENTS]
    ]
    ours, peer = open_encoder("minilm"), SentenceTransformer(str(weights_folder()), device="cpu")
    peer.max_seq_length = ours.spec.max_tokens
    ours.encode_document(texts[:20])
    peer.encode(texts[:20])
    rounds = []
    for _ in range(ROUNDS):
        mine = cpu(lambda: ours.encode_document(texts))
        theirs = cpu(lambda: peer.encode(texts, show_progress_bar=False))
        rounds.append((mine, theirs))
    cosines = (ours.encode_document(texts) * peer.encode(texts)).sum(axis=1)
    counted = ours.counted
    lengths = np.asarray(ours.token_counts(texts)).clip(max=ours.spec.max_tokens)
    gflop = float((lengths * (TOKEN_MFLOP * 1e6 + ATTENTION_FLOP * lengths)).sum()) / 1e9
    return {
        "encode_vs_sentence_transformers": statistics.median(b / a for a, b in rounds),
        "documents_per_cpu_second": len(texts) / statistics.median(a for a, _ in rounds),
        "gflop_per_cpu_second": gflop / statistics.median(a for a, _ in rounds),
        "peer_gflop_per_cpu_second": gflop / statistics.median(b for _, b in rounds),
        "matmul_gflop_per_cpu_second": matmul_speed(),
        "documents": len(texts),
        "tokens_per_document": counted.real_tokens / counted.texts,
        "smallest_cosine_to_sentence_transformers": float(cosines.min()),
        "padded_over_real_tokens": counted.padded_tokens / counted.real_tokens,
    }


def matmul_speed(size: int = 1536, times: int = 10) -> float:
    """What the processor does at most: GFLOP a CPU-second of large float32 products."""
    factor = np.ones((size, size), dtype=np.float32)
    speeds = [cpu(lambda: [factor @ factor for _ in range(times)]) for _ in range(3)]
    return times * 2 * size**3 / min(speeds) / 1e9


def ingest(connection: Connection, url: str) -> dict[str, Any]:
    """Client CPU per chunk of writing ready vectors, beside langchain-postgres' vector store."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((CHUNKS, 384), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    text = "an abstract of a usual length, " * 20
    rounds = [cpu_of_writing(connection, vectors, text) for _ in range(ROUNDS)]
    ours = statistics.median(written for _, written in rounds) / CHUNKS
    theirs = statistics.median(cpu_of_langchain(url, CHUNKS, text) for _ in range(3)) / CHUNKS
    return {
        "ingest_us_per_chunk": 1e6 * ours,
        "claim_us_per_row": 1e6 * statistics.median(claimed for claimed, _ in rounds) / CHUNKS,
        "langchain_us_per_chunk": 1e6 * theirs,
        "ingest_vs_langchain": theirs / ours,
    }


def cpu_of_writing(connection: Connection, vectors: np.ndarray, text: str) -> tuple[float, float]:
    """All chunks through the product's own path, in its own batches: to claim, and to write."""
    connection.execute("drop table if exists ingested cascade")
    connection.execute("delete from pgembed.collection where name = 'ingested'")
    connection.execute("drop table if exists pgembed_data.ingested")
    connection.execute("create table ingested (id int primary key, body text not null)")
    connection.execute(
        "insert into ingested select n, n || ' ' || %s from generate_series(1, %s) as n",
        (text, len(vectors)),
    )
    create_collection(connection, "ingested", source="ingested", content=["body"], encoder="minilm")
    fingerprint = search_target(connection, "ingested").fingerprint
    make_staging(connection)
    taking, writing = 0.0, 0.0
    with claiming(connection) as claimer:
        for start in range(0, len(vectors), BATCH_ROWS):
            claimed: list[Claimed] = []

            def claim(found=claimed) -> None:
                found += _claim(connection, "ingested", claimer, BATCH_ROWS, LEASE)

            taking += cpu(claim)
            block = vectors[start : start + len(claimed)]

            def write(claimed=claimed, block=block) -> None:
                chunks = [
                    ChunkRow(
                        row.key,
                        0,
                        row.content,
                        0,
                        len(row.content),
                        content_hash(fingerprint, row.content),
                        number,
                    )
                    for number, row in enumerate(claimed)
                ]
                prepared = Prepared(chunks, block, len(chunks))
                assert _write(connection, "ingested", claimer, claimed, prepared)[0] == len(claimed)

            writing += cpu(write)
    return taking, writing


def cpu_of_langchain(url: str, rows: int, text: str) -> float:
    """The same rows through langchain-postgres, in the virtual environment of the peers."""
    ran = subprocess.run(
        [str(PEERS), "-m", "benchmarks.peer_langchain", url, DATABASE, str(rows), text],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(ran.stdout)


def routing(connection: Connection) -> dict[str, Any]:
    """CPU of a routed text query over that of an unrouted one: client and backend together."""
    prepare_routing(connection)
    backend = connection.info.backend_pid
    texts = sorted({text for split in read_set("scifact").judgments.values() for text in split})
    search(connection, "abstracts", texts[0])
    spent: dict[str, list[float]] = {"base": [], "soft": []}
    for text in texts[:400]:
        for mode in spent:
            before = backend_cpu(backend)
            own = cpu(lambda t=text, m=mode: search(connection, "abstracts", t, mode=m))
            spent[mode].append(own + backend_cpu(backend) - before)
    base, soft = (statistics.mean(spent[mode]) for mode in ("base", "soft"))
    return {
        "routed_over_unrouted_cpu": soft / base,
        "unrouted_query_cpu_ms": 1e3 * base,
        "routed_query_cpu_ms": 1e3 * soft,
        "experts": EXPERTS,
    }


def prepare_routing(connection: Connection) -> None:
    """Some abstracts, and nine random experts of rank 64 with nine pilots each."""
    connection.execute("create table if not exists abstracts (id int primary key, body text)")
    if connection.execute("select from abstracts").fetchone() is None:
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into abstracts values (%s, %s)",
                [(n, d.body) for n, d in enumerate(read_set("scifact").documents[:ABSTRACTS])],
            )
        create_collection(
            connection, "abstracts", source="abstracts", content=["body"], encoder="minilm"
        )
    sync(connection, "abstracts")
    spec = register_encoder(connection, "minilm")
    generator = np.random.default_rng(1)

    def weights(*shape: int) -> np.ndarray:
        return 0.02 * generator.standard_normal(shape, dtype=np.float32)

    connection.execute(
        "select pgembed.set_router('minilm', 'pilot', %s)",
        (json.dumps({"temperature": 0.05, "standing": {"base": 0.2, "expert 0": 0.3}}),),
    )
    for number in range(EXPERTS):
        expert = LinearExpert(weights(384, 64), weights(64, 384))
        register_expert(connection, spec, f"expert {number}", expert)
        for domain in range(EXPERTS):
            connection.execute(
                "insert into pgembed.pilot values"
                " ('minilm', %s, %s, 100, pgembed.as_vector(%b::real[]))",
                (f"expert {number}", f"domain {domain}", weights(384).tolist()),
            )


def backend_cpu(pid: int) -> float:
    """CPU seconds of a server process so far (Linux: /proc/PID/schedstat, nanoseconds)."""
    with open(f"/proc/{pid}/schedstat") as stat:
        return int(stat.read().split()[0]) / 1e9


def rounded(found: dict[str, Any]) -> dict[str, Any]:
    """Four significant digits: more would pretend to a precision that timings lack."""
    return {
        key: float(f"{value:.4g}")
        if isinstance(value, float) and not key.startswith("smallest")
        else value
        for key, value in found.items()
    }


def main(parts: Sequence[str] = ("encoding", "ingest", "routing")) -> None:
    require_shared()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    result: dict[str, Any] = {}
    with server() as running, open_database(running.url, DATABASE, fresh=True) as connection:
        for name, work in (
            ("encoding", encoding),
            ("ingest", lambda: ingest(connection, running.url)),
            ("routing", lambda: routing(connection)),
        ):
            if name in parts:
                console.print(f"Measuring {name} ...")
                result.update(rounded(work()))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "core.json").write_text(json.dumps(result, indent=2) + "\n")
    console.print_json(data=result)


if __name__ == "__main__":
    main()
