"""The graph of a BERT encoder in onnxruntime's operations, built from its weights: no export, no torch."""

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from squadron.embeddings.local.bert import Bert

_OPSET, _IR_VERSION = 18, 10  # 2023's, which every onnxruntime in use reads
# onnxruntime's own operations, each of which does in one pass what takes several of the standard's.
_FUSED = "com.microsoft"
_INLINE_BYTES = 1024
_SHORTEST = np.float32(1e-12)


def encoder(bert: Bert) -> tuple[bytes, dict[str, np.ndarray]]:
    """The model: `ids` int32 [texts, tokens] and `lengths` int32 [texts] -> float32 [texts, dimension], unit length.

    Its weights come beside it, by the names that it has for them: they are not copied into a file that may hold
    2 GB at most.
    """
    return _Encoder(bert).graph()


class _Encoder:
    """What the pieces of the graph share. Each piece names what goes in and gives the name of what comes out."""

    def __init__(self, bert: Bert) -> None:
        self._bert = bert
        self._weights = bert.weights
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}

    def graph(self) -> tuple[bytes, dict[str, np.ndarray]]:
        positions = self._positions()
        hidden = self._embedded(positions)
        for layer in range(self._bert.layers):
            hidden = self._layer(f"encoder.layer.{layer}", hidden)
        if self._bert.pooling == "cls":
            pooled = self._node("Gather", hidden, self._constant("first", 0), axis=1)
        else:
            pooled = self._summed(hidden, positions)
        length = self._node("ReduceL2", pooled, self._constant("width", [1]), keepdims=1)
        self._node("Div", pooled, self._node("Max", length, self._constant("shortest", _SHORTEST)), output="vectors")
        return self._model()

    def _positions(self) -> str:
        tokens = self._node("Gather", self._node("Shape", "ids"), self._constant("second", 1))
        return self._node("Range", self._constant("start", 0), tokens, self._constant("step", 1))

    def _embedded(self, positions: str) -> str:
        # One text alone is all of token type 0.
        places = (
            self._weights["embeddings.position_embeddings.weight"]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
        )
        words = self._node("Gather", self._weight("embeddings.word_embeddings.weight"), "ids")
        summed = self._node("Add", words, self._node("Gather", self._constant("places", places), positions))
        norm = [self._weight(f"embeddings.LayerNorm.{part}") for part in ("weight", "bias")]
        return self._node("LayerNormalization", summed, *norm, axis=-1, epsilon=self._bert.epsilon)

    def _layer(self, name: str, hidden: str) -> str:
        attended = self._joined(f"{name}.attention.output", self._attention(f"{name}.attention.self", hidden), hidden)
        inner = self._product(f"{name}.intermediate.dense", attended)
        inner = self._fused("BiasGelu", inner, self._weight(f"{name}.intermediate.dense.bias"))
        return self._joined(f"{name}.output", inner, attended)

    def _attention(self, name: str, hidden: str) -> str:
        parts = ("query", "key", "value")
        products = [self._product(f"{name}.{part}", hidden) for part in parts]
        biases = np.concatenate([self._weights[f"{name}.{part}.bias"] for part in parts])
        # A mask of one number for each text: its tokens, after which all is padding.
        mask = "lengths"
        return self._fused(
            "MultiHeadAttention",
            *products,
            self._constant(f"{name}.bias", biases),
            mask,
            num_heads=self._bert.heads,
            mask_filter_value=-10_000.0,
        )

    def _joined(self, name: str, hidden: str, skipped: str) -> str:
        norm = [self._weight(f"{name}.{part}") for part in ("LayerNorm.weight", "LayerNorm.bias", "dense.bias")]
        product = self._product(f"{name}.dense", hidden)
        return self._fused("SkipLayerNormalization", product, skipped, *norm, epsilon=self._bert.epsilon)

    def _product(self, name: str, hidden: str) -> str:
        return self._node("MatMul", hidden, self._constant(f"{name}.weight", self._weights[f"{name}.weight"].T))

    def _summed(self, hidden: str, positions: str) -> str:
        """The sum of each text's tokens: the mean's direction is the sum's."""
        ends = self._node("Unsqueeze", self._node("Cast", "lengths", to=TensorProto.INT64), self._constant("last", [1]))
        real = self._node("Cast", self._node("Less", positions, ends), to=TensorProto.FLOAT)
        kept = self._node("Mul", hidden, self._node("Unsqueeze", real, self._constant("third", [2])))
        return self._node("ReduceSum", kept, self._constant("tokens", [1]), keepdims=0)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _constant(self, name: str, values: Any) -> str:
        if name not in self._constants:
            self._constants[name] = np.asarray(values, order="C")
        return name

    def _fused(self, operation: str, *inputs: str, **attributes: Any) -> str:
        return self._node(operation, *inputs, domain=_FUSED, **attributes)

    def _node(self, operation: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{operation} {len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def _model(self) -> tuple[bytes, dict[str, np.ndarray]]:
        texts, width = "texts", self._weights["embeddings.LayerNorm.weight"].size
        inputs = [
            helper.make_tensor_value_info("ids", TensorProto.INT32, [texts, "tokens"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, [texts]),
        ]
        outputs = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [texts, width])]
        tensors = [_tensor(name, values) for name, values in self._constants.items()]
        graph = helper.make_graph(self._nodes, "bert", inputs, outputs, tensors)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_FUSED, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        return model.SerializeToString(), {n: v for n, v in self._constants.items() if v.nbytes > _INLINE_BYTES}


def _tensor(name: str, values: np.ndarray) -> Any:
    """A small constant with its numbers, a large one without: they are handed over when the model is loaded."""
    tensor = TensorProto(name=name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype))
    if values.nbytes <= _INLINE_BYTES:
        tensor.raw_data = values.tobytes()
    else:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="handed over")
    return tensor
