"""CPU seconds of langchain-postgres writing rows with ready vectors; run by benchmarks.core.

Knows nothing of pgembed, because it runs in a virtual environment that does not have it.
"""

from __future__ import annotations

import sys
import time
from urllib.parse import urlsplit

import numpy as np
from langchain_core.embeddings import FakeEmbeddings
from langchain_postgres import PGVector

BLOCK = 2_000
"""Rows a call: it sends one statement, and a statement has at most 65,535 parameters."""


def main(url: str, database: str, rows: str, text: str) -> None:
    parts = urlsplit(url)
    store = PGVector(
        embeddings=FakeEmbeddings(size=384),
        collection_name="ingested",
        connection=f"postgresql+psycopg://{parts.netloc}/{database}",
        pre_delete_collection=True,
    )
    vectors = np.random.default_rng(0).standard_normal((int(rows), 384)).tolist()
    texts = [f"{number} {text}" for number in range(int(rows))]
    started = time.process_time()
    for first in range(0, len(texts), BLOCK):
        store.add_embeddings(texts[first : first + BLOCK], vectors[first : first + BLOCK])
    print(time.process_time() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
