"""Making an ONNX network that takes multiples of its stride take images of any size: padding before it, cutting after it."""

from __future__ import annotations

from typing import Any


def take_any_size(model: Any, stride: int) -> None:
    """Changes an ONNX model with the input `image` and the output `logits` in place.

    Before the network, images (N, C, H, W) are padded with zeros at the bottom and the right to multiples of the stride, as
    `pad_to_multiple` does it; after it, logits (N, K, ...) are cut to H and W. Exporters cannot follow such sizes through
    all networks, so the nodes are added here.

    Args:
        model: an `onnx.ModelProto` whose height and width are multiples of the stride.
        stride: of the network.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    [image], [logits] = graph.input, graph.output
    _rename(graph, "image", "padded_image")
    _rename(graph, "logits", "padded_logits")

    def numbers(name: str, values: list[int]) -> Any:
        return helper.make_tensor(f"pad_{name}", TensorProto.INT64, [len(values)], values)

    graph.initializer.extend(
        [numbers("stride", [stride]), numbers("none", [0] * 6), numbers("axes", [2, 3]), numbers("start", [0, 0])]
    )
    graph.initializer.append(helper.make_tensor("pad_value", image.type.tensor_type.elem_type, [], [0.0]))
    before = [
        helper.make_node("Shape", ["image"], ["pad_size"], start=2, end=4),
        # ONNX's Mod of integers has the sign of the divisor, as Python's
        helper.make_node("Neg", ["pad_size"], ["pad_minus"]),
        helper.make_node("Mod", ["pad_minus", "pad_stride"], ["pad_missing"]),
        # the beginnings of all four axes, then their ends
        helper.make_node("Concat", ["pad_none", "pad_missing"], ["pad_widths"], axis=0),
        helper.make_node("Pad", ["image", "pad_widths", "pad_value"], ["padded_image"], mode="constant"),
    ]
    cut = helper.make_node("Slice", ["padded_logits", "pad_start", "pad_size", "pad_axes"], ["logits"])
    inside = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *inside, cut])
    for value in (image, logits):
        for place, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[place].Clear()
            value.type.tensor_type.shape.dim[place].dim_param = name
    # sizes inside the network were noted in terms of the old names
    del graph.value_info[:]


def _rename(graph: Any, old: str, new: str) -> None:
    """Renames a value where nodes read and write it; the graph's own inputs and outputs keep their names."""
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
