"""Chunks cover their text, keep their bounds and end where a reader would end them."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgembed.chunking import CHARACTERS_PER_TOKEN, chunks
from pgembed.errors import InputError
from pgembed.model import Chunk

ALPHABET = "ab.! \n\té界。🎉"


def tokenised(text: str) -> list[tuple[int, int]]:
    """A naive tokenizer: up to three word characters, or one other sign."""
    return [match.span() for match in re.finditer(r"\w{1,3}|[^\w\s]", text)]


def tokens_in(chunk: Chunk, offsets: list[tuple[int, int]]) -> int:
    """Tokens that begin inside a chunk."""
    return sum(chunk.start <= begin < chunk.end for begin, _ in offsets)


texts = st.one_of(
    st.text(ALPHABET, max_size=400),
    st.lists(st.sampled_from(["word ", "Sentence. ", "\n\n", "x" * 40, "   " * 20])).map("".join),
)


@given(text=texts, max_tokens=st.integers(1, 30), share=st.floats(0, 0.9))
def test_chunks_rebuild_cover_and_bound_the_text(text: str, max_tokens: int, share: float) -> None:
    """Spans match contents, no visible character is lost, tokens and characters are bounded."""
    overlap = int(share * max_tokens)
    offsets = tokenised(text)
    found = chunks(text, offsets, max_tokens=max_tokens, overlap=overlap)
    covered = np.zeros(len(text), dtype=bool)
    for number, chunk in enumerate(found):
        assert chunk.number == number
        assert text[chunk.start : chunk.end] == chunk.content
        assert chunk.content.strip()
        assert tokens_in(chunk, offsets) <= max_tokens
        assert len(chunk.content) <= CHARACTERS_PER_TOKEN * max_tokens
        covered[chunk.start : chunk.end] = True
    assert all(covered[i] for i, character in enumerate(text) if not character.isspace())


@given(words=st.integers(1, 300), max_tokens=st.integers(4, 40), overlap=st.integers(0, 2))
def test_neighbours_share_the_overlap(words: int, max_tokens: int, overlap: int) -> None:
    """Exactly ``overlap`` tokens lie in both of two neighbouring chunks."""
    text = " ".join(f"w{number % 10}" for number in range(words))
    offsets = tokenised(text)
    found = chunks(text, offsets, max_tokens=max_tokens, overlap=overlap)
    for left, right in itertools.pairwise(found):
        assert sum(right.start <= begin < left.end for begin, _ in offsets) == overlap


@given(text=st.text(ALPHABET, min_size=1, max_size=60))
def test_a_text_that_fits_is_one_chunk_as_it_is(text: str) -> None:
    """Nothing is trimmed from a text that is embedded whole."""
    found = chunks(text, tokenised(text), max_tokens=60)
    expected = [] if text.isspace() else [Chunk(number=0, start=0, end=len(text), content=text)]
    assert found == expected


@pytest.mark.parametrize("text", ["", " ", "\n\t  "])
def test_blank_texts_have_no_chunks(text: str) -> None:
    """Nothing to embed gives nothing."""
    assert chunks(text, tokenised(text), max_tokens=8) == []


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("one two. three four. five six seven eight", "one two. three four."),
        ("one two three four five six seven eight", "one two three four five six seven"),
        ("one two three. four five six seven eight", "one two three. four five six"),
        ('one two three four five". six seven eight', 'one two three four five".'),
        ("one two three four five six\nseven eight", "one two three four five six"),
        ("a b c d e f 3.14159", "a b c d e f"),
    ],
)
def test_windows_end_at_sentences_then_at_whitespace(text: str, first: str) -> None:
    """The last sentence end in the window's last quarter wins, else the last whitespace there."""
    offsets = [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
    assert chunks(text, offsets, max_tokens=7)[0].content == first


def test_ideographic_sentences_end_without_whitespace() -> None:
    """A full-width stop is a place to cut."""
    text = "一二三四五六。七八九"
    offsets = [(i, i + 1) for i in range(len(text))]
    assert [c.content for c in chunks(text, offsets, max_tokens=8)] == ["一二三四五六。", "七八九"]


def test_a_giant_word_is_cut_by_characters() -> None:
    """One unknown token of a million characters becomes chunks of 4096."""
    text = "x" * 1_000_000
    found = chunks(text, [(0, len(text))], max_tokens=256)
    assert {len(chunk.content) for chunk in found[:-1]} == {4096}
    assert "".join(chunk.content for chunk in found) == text


def test_characters_without_tokens_are_covered() -> None:
    """What a normaliser drops stays in the chunks."""
    text = "\u200b" * 100
    assert "".join(chunk.content for chunk in chunks(text, [], max_tokens=2)) == text


@pytest.mark.parametrize(("max_tokens", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_impossible_bounds_are_refused(max_tokens: int, overlap: int) -> None:
    """No window can keep them; the numbers are named."""
    with pytest.raises(InputError, match=f"{max_tokens}"):
        chunks("a b", [(0, 1), (2, 3)], max_tokens=max_tokens, overlap=overlap)
