"""Poolings see real tokens alone, on whichever side the padding is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgembed.errors import InputError
from pgembed.pooling import POOLINGS, unit

NAIVE = {
    "mean": lambda row: row.mean(axis=0),
    "cls": lambda row: row[0],
    "last": lambda row: row[-1],
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", sorted(NAIVE))
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_pooling_equals_its_naive_twin(
    pooling: str, side: str, lengths: list[int], seed: int
) -> None:
    """Padding of any amount on either side, full of NaN-free rubbish, changes nothing."""
    generator = np.random.default_rng(seed)
    rows = [generator.standard_normal((length, 5)).astype(np.float32) for length in lengths]
    states = generator.standard_normal((len(rows), max(lengths) + 2, 5)).astype(np.float32) * 100
    mask = np.zeros(states.shape[:2], dtype=np.int64)
    for number, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(-len(row), None)
        states[number, place] = row
        mask[number, place] = 1
    expected = np.stack([NAIVE[pooling](row) for row in rows])
    np.testing.assert_allclose(POOLINGS[pooling](states, mask), expected, rtol=1e-5, atol=1e-5)


def test_graph_pooling_keeps_what_the_graph_gave() -> None:
    """A graph that pools by itself gives the vectors."""
    vectors = np.eye(3, dtype=np.float32)
    assert POOLINGS["graph"](vectors, np.ones((3, 4), dtype=np.int64)) is vectors


@given(seed=st.integers(0, 99), scale=st.sampled_from([1e-18, 1.0, 1e18]))
def test_unit_gives_length_one_and_keeps_direction(seed: int, scale: float) -> None:
    """float32 in, float32 of length 1 out, even where squares leave float32's range."""
    vectors = np.random.default_rng(seed).standard_normal((4, 8)).astype(np.float32)
    scaled = unit(vectors * np.float32(scale))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(scaled, unit(vectors), rtol=1e-5)


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "NaN"), (0.0, "zero")])
def test_unit_refuses_vectors_without_a_direction(bad: float, word: str) -> None:
    """NaN, infinity and zero are refused, naming the row."""
    vectors = np.ones((3, 4), dtype=np.float32)
    vectors[2] = bad
    with pytest.raises(InputError, match=f"vector 2 .*{word}"):
        unit(vectors)


def test_unit_of_no_vectors_is_empty() -> None:
    """No rows are no error."""
    assert unit(np.empty((0, 4), dtype=np.float32)).shape == (0, 4)
