"""Read ONNX graphs: who makes a value, constants behind casts, the nodes that a value needs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

_FOLDED = ("Cast", "Identity", "Transpose")
"""Operators through which a constant is still one."""


class GraphReader:
    """Looks up nodes and constants of a graph by the names of values.

    Args:
        graph: Not changed while it is read.
    """

    def __init__(self, graph: GraphProto) -> None:
        self.nodes = list(graph.node)
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {
            output: number for number, node in enumerate(self.nodes) for output in node.output
        }
        self._users: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def maker(self, name: str) -> NodeProto | None:
        """The node that makes a value; None for inputs and stored tensors."""
        return self.nodes[self._makers[name]] if name in self._makers else None

    def users(self, name: str) -> list[NodeProto]:
        """The nodes that read a value."""
        return self._users.get(name, [])

    def constants(self) -> list[str]:
        """Names of the stored tensors, and of values that come from one."""
        derived = [name for node in self.nodes if node.op_type in _FOLDED for name in node.output]
        return [*self.tensors, *(name for name in derived if self.root(name) is not None)]

    def root(self, name: str) -> str | None:
        """The stored tensor, or the node of a constant, that a value comes from; None if none."""
        while name not in self.tensors:
            node = self.maker(name)
            if node is None or node.op_type not in (*_FOLDED, "Constant"):
                return None
            if node.op_type == "Constant":
                return name
            name = node.input[0]
        return name

    def constant(self, name: str) -> NDArray[Any]:
        """The values of a constant, casts and transpositions done; ``root`` says if it is one."""
        if name in self.tensors:
            return numpy_helper.to_array(self.tensors[name])
        node = self.nodes[self._makers[name]]
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Constant":
            return np.asarray(_constant_of(attributes))
        values = self.constant(node.input[0])
        if node.op_type == "Transpose":
            return np.transpose(values, attributes.get("perm"))
        if node.op_type == "Cast":
            return values.astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))
        return values

    def needed(self, outputs: Collection[str], stop: Collection[str] = ()) -> list[NodeProto]:
        """The nodes that make some values, in the graph's order; ``stop`` values are given."""
        wanted, seen = list(outputs), set(stop)
        kept: set[int] = set()
        while wanted:
            name = wanted.pop()
            if name and name not in seen and name in self._makers:
                seen.add(name)
                kept.add(self._makers[name])
                wanted += inputs_of(self.nodes[self._makers[name]])
        return [self.nodes[number] for number in sorted(kept)]


def inputs_of(node: NodeProto) -> Iterator[str]:
    """The values that a node reads, those of its inner graphs included."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from inputs_of(inner)


def extract(
    model: ModelProto, given: Collection[str], outputs: Collection[str], width: int
) -> ModelProto:
    """A model of its own that goes from some values to others, with the tensors that it needs.

    Args:
        model: The whole.
        given: Values of type float32, (texts, tokens, width), that become inputs.
        outputs: What it gives; an output of the whole keeps its type.
        width: Of token states.
    """
    reader = GraphReader(model.graph)
    nodes = reader.needed(outputs, stop=given)
    read = {name for node in nodes for name in inputs_of(node)} | set(outputs)
    known = {value.name: value for value in model.graph.output}
    states = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["texts", "tokens", width])
        for name in (*given, *outputs)
    }
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        [*(states[name] for name in given), *(v for v in model.graph.input if v.name in read)],
        [known.get(name) or states[name] for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    return helper.make_model(
        graph,
        ir_version=model.ir_version,
        producer_name="pgembed",
        opset_imports=model.opset_import,
        functions=model.functions,
    )


def _constant_of(attributes: dict[str, Any]) -> Any:
    """The value of a Constant node, which has one of several attributes."""
    if "value" in attributes:
        return numpy_helper.to_array(attributes["value"])
    return next(iter(attributes.values()))
