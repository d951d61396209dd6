"""Batches hold hardly any padding and lose no text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgembed.batching import token_budget_batches
from pgembed.errors import InputError


def padded_per_real(lengths: list[int], batches: list[list[int]]) -> float:
    """Tokens paid for per token wanted."""
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return padded / sum(lengths)


@given(lengths=st.lists(st.integers(1, 600)), budget=st.integers(1, 700))
def test_every_position_occurs_once_within_the_budget(lengths: list[int], budget: int) -> None:
    """Batches are a permutation; only a row that exceeds the budget alone goes beyond it."""
    batches = token_budget_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@given(lengths=st.lists(st.integers(1, 600), min_size=1), budget=st.integers(1, 100_000))
def test_padding_is_at_most_a_twentieth(lengths: list[int], budget: int) -> None:
    """Whatever the lengths and however large the budget, padded per real is at most 1.05."""
    assert padded_per_real(lengths, token_budget_batches(lengths, budget)) <= 1.05 + 1e-9


@pytest.mark.parametrize("mean", [8, 40, 150])
def test_realistic_lengths_fill_their_batches(mean: int) -> None:
    """Many texts of common lengths share batches near the budget, hardly padded."""
    lengths = np.random.default_rng(0).gamma(2.0, mean / 2, 2000).astype(int).clip(3, 256).tolist()
    batches = token_budget_batches(lengths, 256)
    assert padded_per_real(lengths, batches) <= 1.05
    assert len(batches) <= 2.5 * sum(lengths) / 256 + 30


def test_longest_texts_come_first() -> None:
    """Lengths never grow from batch to batch, so that no long one is left for the end."""
    lengths = [3, 200, 7, 7, 90, 200]
    flat = [lengths[i] for batch in token_budget_batches(lengths, 256) for i in batch]
    assert flat == sorted(lengths, reverse=True)


def test_equal_lengths_keep_the_order_of_arrival() -> None:
    """Texts of one length are batched as they came."""
    assert token_budget_batches([64] * 6, 256) == [[0, 1, 2, 3], [4, 5]]


def test_no_texts_make_no_batch() -> None:
    """An empty input is no error."""
    assert token_budget_batches([], 256) == []


def test_a_budget_below_one_is_refused() -> None:
    """The message names the budget."""
    with pytest.raises(InputError, match="token budget of 0"):
        token_budget_batches([1], 0)
