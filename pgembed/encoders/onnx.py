"""Run an ONNX graph: sessions, inputs by name, the output to use, batches over threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pgembed.batching import token_budget_batches
from pgembed.encoders.tokens import Ids
from pgembed.errors import EncoderError
from pgembed.model import Pooling, Vectors
from pgembed.pooling import POOLINGS

TOKENS_IN_FLIGHT = 256
"""Tokens of a batch: larger ones leave the processor's cache, smaller ones cost calls."""

Matrix = NDArray[np.int64]

Result = TypeVar("Result")

_DTYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(bool)": np.bool_,
}
_INPUTS: dict[str, Callable[[Matrix, Matrix], Matrix]] = {
    "input_ids": lambda rows, mask: rows,
    "attention_mask": lambda rows, mask: mask,
    "token_type_ids": lambda rows, mask: np.zeros_like(rows),
    "position_ids": lambda rows, mask: np.maximum(np.cumsum(mask, axis=1) - 1, 0),
}
"""How each input follows from ids and mask, both (n, tokens)."""

_STATE_OUTPUTS = ("last_hidden_state", "token_embeddings")
_POOLED_OUTPUT = "sentence_embedding"


@dataclass(frozen=True, slots=True)
class Graph:
    """An open graph; safe to run from many threads."""

    path: Path
    session: Any
    inputs: tuple[tuple[str, Any], ...]
    """Name and numpy type of each input that the graph wants."""
    output: str
    pooling: Pooling
    """How the output becomes one vector a text: a name in ``POOLINGS``."""
    pad_id: int

    def vectors(self, ids: Sequence[Ids]) -> Vectors:
        """Encode one batch of token ids: (n, d), not scaled.

        Raises:
            EncoderError: The graph cannot run on these ids, or its output has another rank.
        """
        rows, mask = padded(ids, self.pad_id)
        feed = feed_of(self.inputs, rows, mask)
        try:
            (states,) = self.session.run([self.output], feed)
        except Exception as error:  # onnxruntime's exceptions share no public base
            raise EncoderError(
                f"{self.path} cannot run on {rows.shape[0]} texts of {rows.shape[1]} tokens",
                hint="check that tokenizer and max_tokens belong to this graph",
            ) from error
        return self.pooled(states, mask)

    def pooled(self, states: Any, mask: Matrix) -> Vectors:
        """Turn the output for a batch into one vector a text: (n, d), not scaled.

        Raises:
            EncoderError: The output has another rank than the pooling needs.
        """
        self._check_rank(states, mask)
        pooled = POOLINGS[self.pooling](np.asarray(states, dtype=np.float32), mask)
        return np.asarray(pooled, dtype=np.float32)

    def _check_rank(self, states: Any, mask: Matrix) -> None:
        expected = mask.shape[:1] if self.pooling == "graph" else mask.shape
        shape = np.shape(states)
        if len(shape) != len(expected) + 1 or shape[:-1] != expected:
            wanted = "(texts, dimensions)" if self.pooling == "graph" else "(texts, tokens, d)"
            raise EncoderError(
                f"output {self.output} of {self.path} has shape {shape} for {mask.shape} tokens,"
                f" but pooling {self.pooling} needs {wanted}",
                hint="pass another pooling, or export the model as a sentence encoder",
            )


def open_graph(
    path: Path, *, pooling: Pooling | None, configured: Callable[[], Pooling | None], pad_id: int
) -> Graph:
    """Load a graph and choose its output.

    Args:
        path: The ``.onnx`` file.
        pooling: A name in ``POOLINGS`` that the caller insists on.
        configured: Reads the pooling that the model's files name, if any; asked only when the
            caller names none and the graph does not pool by itself.
        pad_id: Token id that fills up short rows.

    Raises:
        EncoderError: The file is corrupt, wants unknown inputs or has no usable output.
    """
    session = open_session(path)
    output, chosen = _choose_output(path, session, pooling, configured)
    return Graph(
        path=path,
        session=session,
        inputs=_choose_inputs(path, session),
        output=output,
        pooling=chosen,
        pad_id=pad_id,
    )


def default_threads() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_batches(
    graph: Graph, ids: Sequence[Ids], *, threads: int
) -> Generator[tuple[list[int], int, Vectors]]:
    """Encode texts of any length: positions, padded tokens and vectors of each batch, as it ends.

    The batches do not depend on ``threads``, so neither does a vector's last bit.
    """

    def run(batch: list[int]) -> tuple[int, Vectors]:
        size = len(batch) * max(len(ids[position]) for position in batch)
        return size, graph.vectors([ids[position] for position in batch])

    with closing(over_batches([len(row) for row in ids], run, threads=threads)) as batches:
        for batch, (size, vectors) in batches:
            yield batch, size, vectors


def over_batches(
    lengths: Sequence[int], run: Callable[[list[int]], Result], *, threads: int
) -> Generator[tuple[list[int], Result]]:
    """Group rows into batches of about ``TOKENS_IN_FLIGHT`` tokens and run each, in threads.

    Threads with one-threaded sessions are faster than one session with as many threads.

    Args:
        lengths: Tokens of each row.
        run: Called with the positions of a batch's rows.
        threads: Batches that run at the same time.

    Yields:
        The positions of a batch and what ``run`` returned, as each batch ends.
    """
    batches = token_budget_batches(lengths, TOKENS_IN_FLIGHT)
    workers = min(threads, len(batches))
    if workers <= 1:
        yield from ((batch, run(batch)) for batch in batches)
        return
    # A pool of its own for each call: a kept one would hang in a forked child.
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pgembed-encode")
    futures = {pool.submit(run, batch): batch for batch in batches}
    try:
        for done in as_completed(futures):
            yield futures[done], done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def open_session(path: Path) -> Any:
    """Open a one-threaded session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            # Measured 10 to 15 % slower on CPU than the two operators that it replaces.
            disabled_optimizers=["SkipLayerNormFusion"],
        )
    except Exception as error:  # onnxruntime's exceptions share no public base
        reason = str(error).partition("\n")[0]
        raise EncoderError(
            f"{path} cannot be loaded: {reason}",
            hint="fetch the file again, or upgrade: pip install -U onnxruntime",
        ) from error


def _choose_inputs(path: Path, session: Any) -> tuple[tuple[str, Any], ...]:
    """Match the graph's inputs with what a tokenizer gives."""
    wanted = [(value.name, _DTYPES.get(value.type)) for value in session.get_inputs()]
    strange = [name for name, dtype in wanted if name not in _INPUTS or dtype is None]
    if strange or "input_ids" not in dict(wanted):
        raise EncoderError(
            f"{path} wants inputs {', '.join(name for name, _ in wanted)},"
            f" but an encoder is fed {', '.join(_INPUTS)}",
            hint="export the model for feature extraction",
        )
    return tuple(wanted)


def _choose_output(
    path: Path, session: Any, pooling: Pooling | None, configured: Callable[[], Pooling | None]
) -> tuple[str, Pooling]:
    """Pick the output to read, and the pooling that it needs."""
    ranks = {value.name: len(value.shape or ()) for value in session.get_outputs()}
    states = [name for name in _STATE_OUTPUTS if name in ranks] or _of_rank(ranks, 3)
    vectors = [_POOLED_OUTPUT] if _POOLED_OUTPUT in ranks else _of_rank(ranks, 2)
    if pooling is None and (_POOLED_OUTPUT in ranks or not states):
        pooling = "graph"
    chosen = pooling or configured()
    outputs = vectors if chosen == "graph" else states
    if chosen is None or not outputs:
        raise _no_output(path, ranks, chosen)
    return outputs[0], chosen


def _of_rank(ranks: dict[str, int], rank: int) -> list[str]:
    return [name for name, found in ranks.items() if found == rank]


def _no_output(path: Path, ranks: dict[str, int], pooling: Pooling | None) -> EncoderError:
    """Say why no output serves."""
    if pooling is None:
        return EncoderError(
            f"nothing beside {path} says how its token states are pooled",
            hint="pass pooling='mean', 'cls' or 'last', as the model's authors say",
        )
    found = ", ".join(f"{name} of rank {rank}" for name, rank in ranks.items())
    return EncoderError(
        f"{path} has no output for pooling {pooling}: it gives {found}",
        hint="token states have rank 3, sentence_embedding has rank 2",
    )


def padded(ids: Sequence[Ids], pad_id: int) -> tuple[Matrix, Matrix]:
    """Fill up rows on the right: ids and mask, both (n, longest)."""
    lengths = np.array([len(row) for row in ids])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    rows = np.full(mask.shape, pad_id, dtype=np.int64)
    rows[mask == 1] = np.concatenate(list(ids))
    return rows, mask


def input_types(session: Any) -> tuple[tuple[str, Any], ...]:
    """Name and numpy type of the inputs that a tokenizer gives, of those that a session wants."""
    return tuple(
        (value.name, _DTYPES[value.type]) for value in session.get_inputs() if value.name in _INPUTS
    )


def feed_of(
    inputs: tuple[tuple[str, Any], ...], rows: Matrix, mask: Matrix
) -> dict[str, NDArray[Any]]:
    """Compute the inputs that the graph wants, in the types that it wants."""
    known = {name: compute(rows, mask) for name, compute in _INPUTS.items() if name in dict(inputs)}
    return {name: np.ascontiguousarray(known[name], dtype=dtype) for name, dtype in inputs}
