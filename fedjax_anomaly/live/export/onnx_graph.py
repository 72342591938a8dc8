"""The scorer as an ONNX model: onnxruntime and NumPy are all that a node needs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_anomaly.live.export.edge_scorer import EdgeScorer
from fedjax_anomaly.models.lstm_autoencoder import group_masks
from fedjax_anomaly.models.reconstruction import layout_slices
from fedjax_anomaly.types import PyTree

if TYPE_CHECKING:
    import onnx

_OPSET = 17
_IR_VERSION = 8
"""The oldest that the operators allow, so that the runtime on a node need not be new."""

_GATES = (0, 3, 1, 2)
"""Where the gates i, o, f, g of ONNX stand among those of `models.lstm`: i, f, g, o."""


def onnx_model(scorer: EdgeScorer) -> "onnx.ModelProto":
    """The scorer with its parameters, for any number of windows at once.

    Inputs: `numeric` Float[B, num_rows, P], in the columns' own units, and, where columns are categorical, `categories`
    Int32[B, T, Q], as for `EdgeScorer.score_windows`. Outputs: `score` Float[B] and `column_errors` Float[B, D] of
    each window's last row. The model's metadata are those of `EdgeScorer.metadata`.

    Raises:
      ValueError: for products in bfloat16, which ONNX's LSTM does not have.

    Guarantees:
      Scores under onnxruntime are those of the library (test:
      `tests/live/export/test_export.py::test_every_form_scores_as_the_parts_do`).

    References:
      ONNX operator set 17: the gate order of `LSTM` is i, o, f, c.
    """
    from onnx import checker, helper

    matmul_dtype = scorer.bundle.model["matmul_dtype"]
    if matmul_dtype != "float32":
        raise ValueError(
            f"matmul_dtype={matmul_dtype} cannot be exported as ONNX, whose LSTM multiplies in float32; export "
            "as stablehlo."
        )
    graph = _Graph()
    rows = _encode(graph, scorer)
    errors = _column_errors(graph, scorer, rows)
    score = _score(graph, scorer, errors)
    graph.add("Identity", [score], name="score")
    graph.add("Identity", [errors], name="column_errors")
    model = helper.make_model(
        graph.build(scorer), opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="fedjax_anomaly"
    )
    model.ir_version = _IR_VERSION
    helper.set_model_props(model, scorer.metadata())
    checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants in the order in which they were added; every value has a name."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, operator: str, inputs: Sequence[str], *, name: str = "", **how: Any) -> str:
        """Appends an operator; returns the name of its first output, the only one that is used."""
        from onnx import helper

        name = name or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **how))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Adds an array; returns its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype, order="C"), name))
        return name

    def slice(self, value: str, begin: int, end: int, axis: int) -> str:
        """Adds a slice along one axis."""
        return self.add("Slice", [value, *(self.constant([bound], np.int64) for bound in (begin, end, axis))])

    def last(self, value: str, axis: int) -> str:
        """Adds the last entry along an axis, which goes."""
        return self.add("Gather", [value, self.constant(-1, np.int64)], axis=axis)

    def sum(self, value: str, axis: int, *, keep: bool) -> str:
        """Adds a sum over an axis."""
        return self.add("ReduceSum", [value, self.constant([axis], np.int64)], keepdims=int(keep))

    def cast(self, value: str, dtype: Any) -> str:
        """Adds a conversion."""
        from onnx import helper

        return self.add("Cast", [value], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def build(self, scorer: EdgeScorer) -> "onnx.GraphProto":
        """The graph from the scorer's inputs to `score` and `column_errors`."""
        from onnx import TensorProto, helper

        layout = scorer.encoder.layout
        shape: list[str | int | None] = ["batch", scorer.num_rows, scorer.num_given]
        inputs = [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, shape)]
        if layout.block_sizes:
            shape = ["batch", scorer.bundle.window_length, len(layout.block_sizes)]
            inputs.append(helper.make_tensor_value_info("categories", TensorProto.INT32, shape))
        outputs = [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("column_errors", TensorProto.FLOAT, ["batch", layout.num_columns]),
        ]
        return helper.make_graph(self._nodes, "scorer", inputs, outputs, self._constants)


def _encode(graph: _Graph, scorer: EdgeScorer) -> str:
    """Encoded rows [B, T, F], as `Encoder.transform` makes them, in float64 until they are standardised."""
    encoder = scorer.encoder
    given = "numeric"
    if scorer.bundle.differences:
        before, given = graph.slice(given, 0, -1, 1), graph.slice(given, 1, scorer.num_rows, 1)
        given = graph.add("Concat", [given, graph.add("Sub", [given, before])], axis=2)
    values = graph.cast(given, np.float64)
    one = graph.constant(1.0, np.float64)
    logs = graph.add("Log", [graph.add("Add", [graph.add("Abs", [values]), one])])
    centred = graph.add(
        "Sub", [graph.add("Mul", [graph.add("Sign", [values]), logs]), graph.constant(encoder.mean, float)]
    )
    standardised = graph.add("Div", [centred, graph.constant(encoder.deviation, float)])
    bounds = [graph.constant(bound, np.float64) for bound in (-encoder.clip, encoder.clip)]
    parts = [graph.cast(graph.add("Clip", [standardised, *bounds]), np.float32)]
    for q, size in enumerate(encoder.layout.block_sizes):
        place = graph.add("Gather", ["categories", graph.constant(q, np.int64)], axis=2)
        parts.append(graph.add("OneHot", [place, graph.constant(size, np.int32), graph.constant([0.0, 1.0])], axis=-1))
    return graph.add("Concat", parts, axis=2)


def _column_errors(graph: _Graph, scorer: EdgeScorer, rows: str) -> str:
    """Column errors of the last rows [B, P + Q], as `models.reconstruction` defines them."""
    output = (
        _dense_output(graph, scorer, rows)
        if scorer.bundle.model["name"] == "dense_autoencoder"
        else _lstm_output(graph, scorer, rows)
    )
    truth = graph.last(rows, axis=1)
    numeric, *blocks = layout_slices(scorer.encoder.layout)

    def both(part: slice) -> tuple[str, str]:
        return graph.slice(truth, part.start, part.stop, 1), graph.slice(output, part.start, part.stop, 1)

    difference = graph.add("Sub", both(numeric))
    errors = [graph.add("Mul", [difference, difference])]
    for block in blocks:
        seen, logits = both(block)
        likelihood = graph.add("Mul", [seen, graph.add("LogSoftmax", [logits], axis=1)])
        errors.append(graph.add("Neg", [graph.sum(likelihood, 1, keep=True)]))
    return graph.add("Concat", errors, axis=1)


def _lstm_output(graph: _Graph, scorer: EdgeScorer, rows: str) -> str:
    """The reconstruction of the last rows [B, F]."""
    layers = scorer.params["params"]
    groups = scorer.bundle.model["feature_groups"]
    masks = None if groups is None else group_masks(scorer.encoder.layout, groups)
    length = scorer.bundle.window_length if masks is None else len(masks)
    steps = rows if masks is None else graph.add("Mul", [rows, graph.constant(masks[None])])
    sequence = graph.add("Transpose", [steps], perm=[1, 0, 2])
    sequence = _lstms(graph, scorer, sequence, "encoder")
    if scorer.bundle.model["latent_per"] == "window":
        sequence = graph.slice(sequence, length - 1, length, 0)
    latent = _affine(graph, sequence, layers["latent"])
    if scorer.bundle.model["latent_per"] == "window":
        latent = graph.add("Tile", [latent, graph.constant([length, 1, 1], np.int64)])
    states = _lstms(graph, scorer, latent, "decoder")
    if masks is None:
        return _affine(graph, graph.last(states, axis=0), layers["output"])
    outputs = graph.add("Mul", [_affine(graph, states, layers["output"]), graph.constant(masks[:, None])])
    return graph.sum(outputs, 0, keep=False)


def _lstms(graph: _Graph, scorer: EdgeScorer, sequence: str, name: str) -> str:
    """The stacked layers of the encoder or the decoder, over [T, B, ...]."""
    for layer in range(scorer.bundle.model["num_layers"]):
        weights = scorer.params["params"][f"{name}_{layer}"]
        bias = _gates_first(weights["bias"][None])
        arrays = (
            _gates_first(weights["input_kernel"]),
            _gates_first(weights["recurrent_kernel"]),
            np.concatenate([bias.T, np.zeros_like(bias.T)], axis=1),
        )
        inputs = [sequence, graph.constant(arrays[0][None]), graph.constant(arrays[1][None]), graph.constant(arrays[2])]
        states = graph.add("LSTM", inputs, hidden_size=scorer.bundle.model["hidden_size"])
        sequence = graph.add("Squeeze", [states, graph.constant([1], np.int64)])
    return sequence


def _gates_first(kernel: Any) -> np.ndarray:
    """Float[4H, M] in ONNX's order of gates, from [M, 4H] in ours."""
    gates = np.split(np.asarray(kernel), 4, axis=1)
    return np.concatenate([gates[g] for g in _GATES], axis=1).T


def _dense_output(graph: _Graph, scorer: EdgeScorer, rows: str) -> str:
    """The reconstruction of the last rows [B, F]: of the output layer only what is scored is computed."""
    layers = scorer.params["params"]
    num_features = scorer.encoder.layout.num_features
    values = graph.add("Reshape", [rows, graph.constant([-1, scorer.bundle.window_length * num_features], np.int64)])
    for name in ("encoder", "decoder"):
        for layer in range(scorer.bundle.model["num_layers"]):
            values = graph.add("Tanh", [_affine(graph, values, layers[f"{name}_{layer}"])])
        if name == "encoder":
            values = _affine(graph, values, layers["latent"])
    output = {part: np.asarray(value)[..., -num_features:] for part, value in layers["output"].items()}
    return _affine(graph, values, output)


def _affine(graph: _Graph, values: str, layer: PyTree) -> str:
    product = graph.add("MatMul", [values, graph.constant(layer["kernel"])])
    return graph.add("Add", [product, graph.constant(layer["bias"])])


def _score(graph: _Graph, scorer: EdgeScorer, errors: str) -> str:
    """Float[B], by the rule of the bundle."""
    if scorer.bundle.score == "mean":
        return graph.add("ReduceMean", [errors], axes=[1], keepdims=0)
    reference = scorer.bundle.reference
    each = graph.add("Unsqueeze", [errors, graph.constant([1], np.int64)])
    at_least = graph.add("GreaterOrEqual", [graph.constant(reference[None]), each])
    above = graph.add("Add", [graph.sum(graph.cast(at_least, np.float32), 1, keep=False), graph.constant(1.0)])
    logs = graph.add("Log", [graph.add("Div", [above, graph.constant(len(reference) + 1.0)])])
    return graph.add("Neg", [graph.add("ReduceMean", [logs], axes=[1], keepdims=0)])
