"""Naive twins: what the product does, written once more in the plainest way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence


def bm25(
    chunks: Mapping[str, Sequence[Sequence[str]]], query: Sequence[str], average_length: float
) -> dict[str, float]:
    """BM25 scores of rows by their best chunk, those without any of the words left out.

    Args:
        chunks: for each key the words of its chunks, stop words left out.
        query: words of the query, as often as they are said.
        average_length: words of an average chunk.
    """
    every = [Counter(words) for row in chunks.values() for words in row]
    found = {}
    for key, row in chunks.items():
        scores = []
        for words in row:
            score = 0.0
            for word in query:
                containing = sum(word in chunk for chunk in every)
                weight = math.log(1 + (len(every) - containing + 0.5) / (containing + 0.5))
                times = words.count(word)
                length = 0.25 + 0.75 * len(words) / average_length
                score += weight * times * 2.2 / (times + 1.2 * length)
            scores.append(score)
        if scores and max(scores) > 0:
            found[key] = max(scores)
    return found
