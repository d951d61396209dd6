"""Find the files outside a graph that hold its tensors, without loading the graph."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from pgembed.errors import EncoderError

_NESTED: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
"""Messages of onnx.proto (ONNX 1.17) on the way to TensorProto.external_data, by field number."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def external_files(graph: Path) -> list[Path]:
    """List the files that hold tensors of ``graph``, each once, in order of their names.

    Raises:
        EncoderError: The graph cannot be parsed, a file lies outside the graph's directory, or a
            file is missing.
    """
    found = [_inside(graph, location) for location in sorted(set(_locations(graph)))]
    for path in found:
        if not path.is_file():
            raise EncoderError(
                f"{graph} keeps tensors in {path.name}, which is missing",
                hint=f"put {path.name} beside the graph",
            )
    return found


def _inside(graph: Path, location: str) -> Path:
    """Resolve a location against the graph's directory, refusing every way out of it."""
    windows = PureWindowsPath(location)
    escapes = ".." in windows.parts or windows.drive or windows.root
    if not location or escapes or PurePosixPath(location).is_absolute():
        raise EncoderError(
            f"{graph} refers to tensors outside its directory, in {location!r}",
            hint="do not load this model; export it again with its data beside the graph",
        )
    return graph.parent / location


def _locations(graph: Path) -> list[str]:
    """Collect the ``location`` of every external tensor in a graph file."""
    if graph.stat().st_size == 0:
        raise _corrupt(graph)
    try:
        with (
            graph.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            entries = [_entry(data, *span) for span in _walk(data, "Model", 0, len(data))]
    except (ValueError, IndexError, RecursionError) as error:
        raise _corrupt(graph) from error
    return [value for key, value in entries if key == "location"]


def _corrupt(graph: Path) -> EncoderError:
    return EncoderError(
        f"{graph} is corrupt: it is no ONNX graph",
        hint="fetch the file again from where the model came from",
    )


def _walk(data: mmap.mmap, message: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Find the bytes of each external_data entry below one message."""
    nested = _NESTED[message]
    for number, first, past in _fields(data, start, end):
        kind = nested.get(number)
        if kind == "Entry":
            yield first, past
        elif kind is not None:
            yield from _walk(data, kind, first, past)


def _entry(data: mmap.mmap, start: int, end: int) -> tuple[str, str]:
    """Read a StringStringEntryProto: its key and value."""
    values = {
        number: data[first:past].decode() for number, first, past in _fields(data, start, end)
    }
    return values.get(1, ""), values.get(2, "")


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Walk over one message: number, first byte and one past the last of each bytes field."""
    at = start
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, at = _varint(data, at)
        elif wire == _BYTES:
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("a field is longer than its message")
            yield number, at, at + length
            at += length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} does not occur in ONNX")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """Read a variable-length integer: its value and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("an integer has more than 10 bytes")
