"""Open an encoder by its source; the same source gives the same object in one process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pgembed.encoders import hub, minilm
from pgembed.encoders.directory import (
    ModelFiles,
    configured_max_tokens,
    configured_pooling,
    configured_prefix,
    model_files,
)
from pgembed.encoders.encoder import Encoder
from pgembed.encoders.fingerprint import fingerprint
from pgembed.encoders.onnx import Graph, default_threads, open_graph
from pgembed.encoders.tokens import Tokens
from pgembed.errors import EncoderError
from pgembed.model import EncoderSpec, Pooling
from pgembed.pooling import POOLINGS


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a caller asks for; None and "" where the model's own files decide."""

    source: str
    name: str
    pooling: Pooling | None
    query_prefix: str
    document_prefix: str
    max_tokens: int | None
    dimensions: int | None
    threads: int


_FILES = ("*", "onnx/*", "*_Pooling/config.json")

_Stamps = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of a directory's files."""

_opened: dict[tuple[_Wish, _Stamps], Encoder] = {}
_lock = threading.RLock()


def open_encoder(
    source: str,
    *,
    name: str | None = None,
    pooling: Pooling | None = None,
    query_prefix: str = "",
    document_prefix: str = "",
    max_tokens: int | None = None,
    dimensions: int | None = None,
    threads: int | None = None,
) -> Encoder:
    """Open an encoder, or return the one that this process has open already.

    Args:
        source: ``minilm`` (all-MiniLM-L6-v2, 384 dimensions, 256 tokens), a directory with
            ``model.onnx`` and ``tokenizer.json``, or ``hf:owner/name``.
        name: Its name in the database; by default the last part of the source.
        pooling: How token states become a vector; by default what the model's files say.
        query_prefix: Put before each query; by default the model's own prompt.
        document_prefix: Put before each document; by default the model's own prompt.
        max_tokens: Longest input in tokens; by default what the model's files say, at most 8192.
        dimensions: Keep the first so many dimensions, for models trained that way (Matryoshka
            representation learning, Kusupati et al. 2022); by default all.
        threads: Batches that run at the same time; by default one a processor.

    Raises:
        EncoderError: The model cannot be found, is corrupt, or is not supported.
    """
    _check(pooling, threads)
    wish = _Wish(
        source=_absolute(source),
        name=name or _last_part(source),
        pooling=pooling,
        query_prefix=query_prefix,
        document_prefix=document_prefix,
        max_tokens=max_tokens,
        dimensions=dimensions,
        threads=threads or default_threads(),
    )
    with _lock:
        folder = _folder(wish.source)
        key = (wish, _stamps(folder))
        if key not in _opened:
            _opened[key] = _shared(_open(folder, wish), wish)
        return _opened[key]


def _check(pooling: str | None, threads: int | None) -> None:
    if pooling is not None and pooling not in POOLINGS:
        raise EncoderError(f"there is no pooling {pooling!r}", hint=f"choose {', '.join(POOLINGS)}")
    if threads is not None and threads < 1:
        raise EncoderError(f"{threads} threads encode nothing", hint="pass 1 or more")


def _absolute(source: str) -> str:
    """Write a directory as an absolute path, so that it is found again from elsewhere."""
    if source == minilm.SOURCE or source.startswith(hub.SCHEME):
        return source
    return str(Path(source).expanduser().absolute())


def _last_part(source: str) -> str:
    """Name an encoder after its source."""
    if source.startswith(hub.SCHEME):
        return source.rpartition("/")[2]
    return source if source == minilm.SOURCE else Path(source).expanduser().absolute().name


def _folder(source: str) -> Path:
    """Find the directory that a source stands for, fetching or building it where needed."""
    if source == minilm.SOURCE:
        return minilm.folder()
    if source.startswith(hub.SCHEME):
        return hub.folder(source)
    if not Path(source).is_dir():
        raise EncoderError(
            f"there is no encoder {source}: no such directory",
            hint="pass 'minilm', 'hf:owner/name', or a directory with model.onnx",
        )
    return Path(source)


def _stamps(folder: Path) -> _Stamps:
    """Stamp a model's files, so that a changed directory is opened anew."""
    found = [path for pattern in _FILES for path in sorted(folder.glob(pattern))]
    stats = [(str(path), path.stat()) for path in found if path.is_file()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _shared(encoder: Encoder, wish: _Wish) -> Encoder:
    """Prefer an encoder that is open already and equal, however it was asked for."""
    same = (
        opened
        for (other, _), opened in _opened.items()
        if opened.spec == encoder.spec and other.threads == wish.threads
    )
    return next(same, encoder)


def _open(folder: Path, wish: _Wish) -> Encoder:
    """Load graph and tokenizer, and find out what the model's files leave open."""
    files = model_files(folder)
    max_tokens = configured_max_tokens(folder, wish.max_tokens)
    tokens = Tokens(files.tokenizer, max_tokens)
    graph = open_graph(
        files.graph,
        pooling=wish.pooling,
        configured=partial(configured_pooling, folder),
        pad_id=tokens.pad_id,
    )
    spec = EncoderSpec(
        name=wish.name,
        fingerprint="",
        dimensions=_dimensions(graph, tokens, wish.dimensions),
        max_tokens=max_tokens,
        source=wish.source,
        pooling=graph.pooling,
        query_prefix=wish.query_prefix or configured_prefix(folder, "query"),
        document_prefix=wish.document_prefix or configured_prefix(folder, "document"),
    )
    known = replace(spec, fingerprint=_fingerprint(files, spec))
    return Encoder(known, graph, tokens, threads=wish.threads)


def _dimensions(graph: Graph, tokens: Tokens, wanted: int | None) -> int:
    """Run the graph once to learn its vectors' length, and check the caller's wish against it."""
    native = graph.vectors(tokens.ids(["probe"])).shape[1]
    if wanted is not None and not 1 <= wanted <= native:
        raise EncoderError(
            f"{graph.path} gives {native} dimensions, not {wanted}", hint=f"pass 1 to {native}"
        )
    return native if wanted is None else wanted


def _fingerprint(files: ModelFiles, spec: EncoderSpec) -> str:
    return fingerprint(
        files,
        pooling=spec.pooling,
        prefixes=(spec.query_prefix, spec.document_prefix),
        max_tokens=spec.max_tokens,
        dimensions=spec.dimensions,
    )
