"""Graph surgery: adapter slots on the projections of a BERT, and the graph in two halves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto, helper

from pgembed.encoders.graphs import GraphReader, extract
from pgembed.encoders.halves import EXPERT_INPUT, input_name
from pgembed.errors import EncoderError
from pgembed.lora_expert import PARTS, TARGETS, part_of, slot_name

_NAMED = re.compile(rf"layer\.(\d+)\.({'|'.join(re.escape(part) for part in PARTS)})(?![\w])")
"""Where a projection stands, in the names that exporters give its node, matrix and bias."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A dense projection x W + b of a layer."""

    slot: str
    layer: int
    input: str
    """The value x, float32, (texts, tokens, in)."""
    output: str
    """The value x W + b."""
    matrix: str
    """The constant W, (in, out)."""
    bias: str | None
    """The constant b, (out,)."""
    width_in: int
    width_out: int


def projections(model: ModelProto) -> dict[str, Projection]:
    """Find the projections of every layer, by slot, in the order of the layers.

    A projection is a MatMul with a constant matrix, and the addition of its bias if it has one;
    which one it is stands in the name of its node, its matrix or its bias.

    Raises:
        EncoderError: There are none, a layer lacks its query, or one is found twice.
    """
    reader = GraphReader(model.graph)
    found: dict[str, Projection] = {}
    for node in model.graph.node:
        projection = _projection(reader, node)
        if projection is None:
            continue
        if projection.slot in found:
            raise _unusable(f"it has two projections {projection.slot}")
        found[projection.slot] = projection
    layers = {projection.layer for projection in found.values()}
    queries = {p.layer for slot, p in found.items() if slot.endswith(TARGETS["query"])}
    if not queries or layers != queries or queries != set(range(min(queries), max(queries) + 1)):
        raise _unusable(f"query projections were found in layers {sorted(queries) or 'none'}")
    return dict(sorted(found.items(), key=lambda item: (item[1].layer, item[0])))


def chosen(found: Mapping[str, Projection], targets: Sequence[str]) -> list[Projection]:
    """The projections of some kinds in every layer.

    Raises:
        EncoderError: A target is unknown, or the model has none of its kind.
    """
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        raise EncoderError(
            f"there is no projection {unknown[0]!r}" if unknown else "adapters need a projection",
            hint=f"choose of {', '.join(TARGETS)}",
        )
    parts = {TARGETS[target] for target in targets}
    kept = [each for slot, each in found.items() if part_of(slot) in parts]
    missing = parts - {part_of(each.slot) for each in kept}
    if missing:
        raise _unusable(f"it has no projection {min(missing)}")
    return kept


def with_slots(model: ModelProto, slots: Sequence[Projection]) -> ModelProto:
    """Add a slot to each chosen projection: output + (x A[expert_id]) B[expert_id].

    The scale of an adapter is a factor of B. The new inputs are ``expert_id`` and, for each slot,
    A (experts, in, rank) and B (experts, rank, out).
    """
    by_output = {projection.output: projection for projection in slots}
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    for node in model.graph.node:
        projection = next((by_output[name] for name in node.output if name in by_output), None)
        if projection is None:
            made.graph.node.append(node)
        else:
            made.graph.node.extend(_adapted(node, projection))
    made.graph.input.append(
        helper.make_tensor_value_info(EXPERT_INPUT, TensorProto.INT64, ["texts"])
    )
    for projection in slots:
        shapes: dict[str, tuple[int | str, int | str]] = {
            "A": (projection.width_in, "rank"),
            "B": ("rank", projection.width_out),
        }
        for letter, shape in shapes.items():
            name = input_name(projection.slot, letter)
            value = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["experts", *shape])
            made.graph.input.append(value)
    return made


def boundary(found: Mapping[str, Projection], layer: int) -> Projection:
    """The projection whose input is the states before a layer."""
    return found[slot_name(layer, TARGETS["query"])]


def halves(
    model: ModelProto, found: Mapping[str, Projection], split: int, output: str
) -> tuple[ModelProto, ModelProto]:
    """Cut a model before a layer: tokens to states, and states to ``output``.

    Args:
        model: With or without slots.
        found: Its projections.
        split: The first layer of the upper half.
        output: What the upper half gives.

    Raises:
        EncoderError: ``split`` is no layer, or more than one value crosses the cut.
    """
    layers = 1 + max(projection.layer for projection in found.values())
    if not 0 <= split < layers:
        raise EncoderError(
            f"a model of {layers} layers cannot be split before layer {split}",
            hint=f"pass 0 to {layers - 1}",
        )
    cut = boundary(found, split)
    lower = extract(model, [], [cut.input], cut.width_in)
    upper = extract(model, [cut.input], [output], cut.width_in)
    inside = {node.input[1] for node in upper.graph.node if node.op_type == "MatMul"}
    crossing = [p.slot for p in found.values() if p.layer < split and p.matrix in inside]
    missing = [p.slot for p in found.values() if p.layer >= split and p.matrix not in inside]
    if crossing or missing:
        raise _unusable(
            f"before layer {split} it cannot be split at one value:"
            f" {(crossing or missing)[0]} is on both sides"
        )
    return lower, upper


def _adapted(node: NodeProto, projection: Projection) -> Iterator[NodeProto]:
    """The node that ends a projection, and the nodes that add what an adapter adds."""
    slot, plain = projection.slot, f"{projection.slot}.plain"
    ended = NodeProto()
    ended.CopyFrom(node)
    ended.output[:] = [plain if name == projection.output else name for name in node.output]
    yield ended
    value = projection.input
    for letter in "AB":
        bank, own = input_name(slot, letter), f"{slot}.own_{letter}"
        yield helper.make_node("Gather", [bank, EXPERT_INPUT], [own], f"{own}.node", axis=0)
        result = f"{slot}.times_{letter}"
        yield helper.make_node("MatMul", [value, own], [result], f"{result}.node")
        value = result
    yield helper.make_node("Add", [plain, value], [projection.output], f"{slot}.adapted.node")


def _projection(reader: GraphReader, node: NodeProto) -> Projection | None:
    """Read a node as a projection; None when it is none, or none that is known."""
    if node.op_type != "MatMul":
        return None
    matrix = reader.root(node.input[1])
    if matrix is None or reader.root(node.input[0]) is not None:
        return None
    output, bias = _bias(reader, node)
    # Names of weights say more than a node's, which leaves out modules that are not called; but a
    # stored tensor may be shared by several weights that are equal.
    shared = (matrix, reader.root(bias)) if bias else (matrix,)
    names = (bias or "", node.input[1], node.name, *(name or "" for name in shared))
    place = next(filter(None, (_NAMED.search(name.replace("/", ".")) for name in names)), None)
    values = reader.constant(node.input[1])
    if place is None or values.ndim != 2:
        return None
    layer = int(place[1])
    return Projection(
        slot=slot_name(layer, place[2]),
        layer=layer,
        input=node.input[0],
        output=output,
        matrix=node.input[1],
        bias=bias,
        width_in=int(values.shape[0]),
        width_out=int(values.shape[1]),
    )


def _bias(reader: GraphReader, product: NodeProto) -> tuple[str, str | None]:
    """The value that a projection ends in, and its bias: the one constant that is added next."""
    users = reader.users(product.output[0])
    if len(users) == 1 and users[0].op_type == "Add":
        for name in users[0].input:
            if name != product.output[0] and reader.root(name) is not None:
                return users[0].output[0], name
    return product.output[0], None


def _unusable(reason: str) -> EncoderError:
    return EncoderError(
        f"the graph cannot take adapters: {reason}",
        hint="export a BERT-like model plainly: with its names, not quantised, not yet optimised",
    )
