"""An encoder gives the same unit vectors however texts are batched, ordered and threaded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgembed.encoders import Encoder, open_encoder
from pgembed.errors import EncoderError, InputError
from tests.encoders.tiny import make_tiny_encoder

WORDS = [
    *("backup", "restore", "kidney", "blood", "contract"),
    *("court", "planet", "orbit", "recipe", "butter"),
]
texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with prompts, of 128 tokens."""
    prompts = {"query": "query: ", "passage": "passage: "}
    return make_tiny_encoder(tmp_path_factory.mktemp("model"), prompts=prompts)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    """The model, on two threads."""
    return open_encoder(str(folder), name="tiny", threads=2)


@given(batch=texts)
def test_a_batch_equals_its_texts_one_by_one(encoder: Encoder, batch: list[str]) -> None:
    """Neither neighbours nor order change a vector beyond rounding."""
    together = encoder.encode_document(batch)
    assert together.shape == (len(batch), 32)
    assert together.dtype == np.float32
    for text, vector in zip(batch, together, strict=True):
        np.testing.assert_allclose(encoder.encode_document([text])[0], vector, atol=2e-6)


def test_vectors_have_length_one(encoder: Encoder) -> None:
    """Queries and documents alike."""
    for vectors in (encoder.encode_query(WORDS), encoder.encode_document(WORDS)):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)


def test_texts_that_share_words_are_similar(encoder: Encoder) -> None:
    """The tiny model ranks as a bag of words does."""
    documents = encoder.encode_document(
        ["restoring a database backup", "kidneys filter the blood", "a court voids a contract"]
    )
    queries = encoder.encode_query(["how to restore backups", "blood in kidneys", "contract court"])
    assert (queries @ documents.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_thread_counts_give_the_same_bits(folder: Path) -> None:
    """Batches do not depend on the number of threads."""
    generator = np.random.default_rng(0)
    batch = [" ".join(generator.choice(WORDS, size)) for size in generator.integers(1, 90, 200)]
    found = [open_encoder(str(folder), threads=n).encode_document(batch) for n in (1, 2, 5)]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_many_threads_may_encode_at_once(encoder: Encoder) -> None:
    """Concurrent callers get what a lone caller gets, and every text is counted."""
    batch = [" ".join(WORDS[: n % 10 + 1]) for n in range(100)]
    expected = encoder.encode_query(batch)
    before = encoder.counted.texts
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: encoder.encode_query(batch), range(16)))
    assert all(np.array_equal(expected, vectors) for vectors in found)
    assert encoder.counted.texts == before + 1600


def test_no_texts_give_no_vectors(encoder: Encoder) -> None:
    """An empty list is no error."""
    assert encoder.encode_query([]).shape == (0, 32)
    assert encoder.token_counts([]) == []


def test_progress_adds_up_to_the_texts(encoder: Encoder) -> None:
    """The callback hears of every text once, in the caller's thread."""
    done: list[int] = []
    encoder.encode_document(WORDS * 30, on_progress=done.append)
    assert sum(done) == 300
    assert len(done) > 1


def test_an_error_in_the_callback_reaches_the_caller(encoder: Encoder) -> None:
    """Nothing is swallowed, and the encoder works on."""

    def refuse(count: int) -> None:
        raise RuntimeError(f"stop after {count}")

    with pytest.raises(RuntimeError, match="stop after"):
        encoder.encode_document(WORDS * 30, on_progress=refuse)
    assert len(encoder.encode_query(["butter"])) == 1


def test_counted_tokens_are_those_of_the_texts(folder: Path) -> None:
    """Real tokens are the tokenizer's, padding costs at most a twentieth."""
    encoder = open_encoder(str(folder), name="counted")
    batch = [" ".join(WORDS[: n % 10 + 1]) for n in range(300)]
    encoder.encode_document(batch)
    counted = encoder.counted
    assert counted.texts == 300
    assert counted.real_tokens == sum(encoder.token_counts(batch))
    assert counted.real_tokens <= counted.padded_tokens <= 1.05 * counted.real_tokens


def test_prompts_are_put_before_texts(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    """A prompt counts as text: the same as writing it by hand."""
    plain = open_encoder(str(make_tiny_encoder(tmp_path / "plain")))
    assert (encoder.spec.query_prefix, encoder.spec.document_prefix) == ("query: ", "passage: ")
    assert np.array_equal(encoder.encode_query(["butter"]), plain.encode_query(["query: butter"]))
    assert np.array_equal(
        encoder.encode_document(["butter"]), plain.encode_document(["passage: butter"])
    )
    other = open_encoder(str(folder), query_prefix="search: ")
    assert np.array_equal(other.encode_query(["butter"]), plain.encode_query(["search: butter"]))


def test_long_texts_are_cut_after_max_tokens(encoder: Encoder) -> None:
    """What lies beyond the bound does not count."""
    head = "butter " * 128
    assert np.array_equal(
        encoder.encode_document([head + "court"]), encoder.encode_document([head + "orbit"])
    )


@pytest.mark.parametrize("text", ["x" * 10_000_000, "butter " * 1_500_000, "\n" * 10_000_000 + "x"])
def test_a_text_of_ten_megabytes_is_sliced(encoder: Encoder, text: str) -> None:
    """The tokenizer sees a few thousand characters, without the blanks at the beginning."""
    before = encoder.counted.real_tokens
    assert encoder.encode_query([text]).shape == (1, 32)
    assert 4 < encoder.counted.real_tokens - before <= 128


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("", "is empty"),
        (" \n\t", "is empty"),
        ("a\0b", "holds a NUL"),
        ("a\ud800b", "holds a lone surrogate at character 1"),
        (None, "is a NoneType"),
        (b"bytes", "is a bytes"),
    ],
)
def test_unusable_texts_are_refused_by_their_index(encoder: Encoder, bad: str, reason: str) -> None:
    """The message says which text of the batch, and why; nothing is encoded."""
    before = encoder.counted.texts
    with pytest.raises(InputError, match=f"query text 2 {reason}"):
        encoder.encode_query(["a", "b", bad])
    with pytest.raises(InputError, match=f"document text 0 {reason}"):
        encoder.encode_document([bad])
    assert encoder.counted.texts == before


def test_one_string_is_not_a_list_of_texts(encoder: Encoder) -> None:
    """A string would be taken for its characters."""
    with pytest.raises(InputError, match="pass a list"):
        encoder.encode_query("butter")


@given(words=st.lists(st.sampled_from([*WORDS, "sentence.", "\n", "x" * 30]), max_size=400))
def test_chunks_fit_the_encoder(encoder: Encoder, words: list[str]) -> None:
    """Each chunk, prompt and special tokens included, is encoded whole."""
    text = " ".join(words)
    found = encoder.chunk(text, max_tokens=40, overlap=8)
    assert all(text[chunk.start : chunk.end] == chunk.content for chunk in found)
    assert max(encoder.token_counts([chunk.content for chunk in found]), default=0) <= 40
    assert bool(found) == bool(text.strip())


def test_chunks_that_begin_inside_words_still_fit(encoder: Encoder) -> None:
    """A word's rest may take more tokens alone than within the word; the chunk shrinks then."""
    text = "".join(WORDS) * 40
    found = encoder.chunk(text, max_tokens=30)
    assert max(encoder.token_counts([chunk.content for chunk in found])) <= 30
    assert "".join(chunk.content for chunk in found) == text


def test_long_texts_are_tokenised_in_segments(encoder: Encoder) -> None:
    """Counts and chunks of a text of many segments are those of one."""
    text = "court orbit butter. " * 5000
    assert encoder.token_counts([text])[0] - encoder.token_counts(["."])[0] + 1 == (
        5000 * (encoder.token_counts(["court orbit butter."])[0] - encoder.token_counts([""])[0])
    )
    found = encoder.chunk(text)
    assert all(chunk.content.endswith(".") for chunk in found)
    assert max(encoder.token_counts([chunk.content for chunk in found])) <= 128


@pytest.mark.parametrize(("max_tokens", "overlap"), [(129, 0), (6, 0), (40, 34), (0, 0)])
def test_impossible_chunk_bounds_are_refused(
    encoder: Encoder, max_tokens: int, overlap: int
) -> None:
    """The hint names the bounds that are possible."""
    with pytest.raises(InputError, match=f"chunks of {max_tokens} tokens.*\nHint: pass max_tokens"):
        encoder.chunk("butter", max_tokens=max_tokens, overlap=overlap)


def test_chunk_refuses_characters_that_no_tokenizer_takes(encoder: Encoder) -> None:
    """A blank text has no chunks, a NUL is an error."""
    assert encoder.chunk("  ") == []
    with pytest.raises(InputError, match="NUL"):
        encoder.chunk("a\0b")


def test_vectors_without_direction_are_an_error(tmp_path: Path) -> None:
    """A model that gives zeros or NaN is named, never stored."""
    import onnx

    folder = make_tiny_encoder(tmp_path / "broken", pooling="graph")
    model = onnx.load(folder / "model.onnx")
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    table.raw_data = bytes(len(table.raw_data))
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(EncoderError, match=r"encoder broken gave a vector .* zero"):
        open_encoder(str(folder)).encode_query(["butter"])
