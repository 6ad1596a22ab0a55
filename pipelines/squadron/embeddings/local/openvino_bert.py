"""The graph of a BERT encoder in OpenVINO's operations, built from its weights: no export, no torch."""

from typing import Any

import numpy as np

from squadron.embeddings.local.bert import Bert
from squadron.embeddings.local.openvino_runtime import openvino
from squadron.embeddings.local.openvino_runtime import opset13 as op

# Added to the attention scores of padding: its share of the softmax is zero.
_PADDING_SCORE = np.float32(-10_000)


def encoder(bert: Bert, int8: bool = False) -> Any:
    """The model: `ids` int32 [texts, tokens] and `lengths` int32 [texts] -> float32 [texts, dimension], unit length.

    `int8`: weights in 8 bits, one scale for each row of a matrix.
    """
    return _Encoder(bert, int8).graph()


class _Encoder:
    """What the pieces of the graph share."""

    def __init__(self, bert: Bert, int8: bool) -> None:
        self._bert = bert
        self._weights = bert.weights
        self._int8 = int8

    def graph(self) -> Any:
        ids = op.parameter([-1, -1], np.int32, "ids")
        lengths = op.parameter([-1], np.int32, "lengths")
        tokens = op.gather(op.shape_of(ids, "i32"), _integers(1), _integers(0))
        positions = op.range(_integer(0), op.squeeze(tokens, _integers(0)), _integer(1), "i32")
        real = op.convert(op.less(positions, op.unsqueeze(lengths, _integers(1))), "f32")
        padding = op.multiply(op.subtract(_constant(np.float32(1)), real), _constant(_PADDING_SCORE))
        scores = op.unsqueeze(padding, _integers(1, 2))
        hidden = self._embedded(ids, positions)
        for layer in range(self._bert.layers):
            hidden = self._layer(f"encoder.layer.{layer}", hidden, scores)
        if self._bert.pooling == "cls":
            pooled = op.gather(hidden, _integer(0), _integer(1))
        else:  # the mean's direction is the sum's
            pooled = op.reduce_sum(op.multiply(hidden, op.unsqueeze(real, _integers(2))), _integers(1), False)
        vectors = op.normalize_l2(pooled, _integers(1), 1e-12, "max")
        return openvino.Model([op.result(vectors)], [ids, lengths], "bert")

    def _embedded(self, ids: Any, positions: Any) -> Any:
        table = self._weights["embeddings.word_embeddings.weight"]
        # One text alone is all of token type 0.
        positions_table = (
            self._weights["embeddings.position_embeddings.weight"]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
        )
        words = op.gather(_constant(table), ids, _integer(0))
        return self._norm(
            "embeddings.LayerNorm", op.add(words, op.gather(_constant(positions_table), positions, _integer(0)))
        )

    def _layer(self, name: str, hidden: Any, scores: Any) -> Any:
        attended = self._dense(
            f"{name}.attention.output.dense", self._attention(f"{name}.attention.self", hidden, scores)
        )
        hidden = self._norm(f"{name}.attention.output.LayerNorm", op.add(attended, hidden))
        inner = op.gelu(self._dense(f"{name}.intermediate.dense", hidden), "erf")
        return self._norm(f"{name}.output.LayerNorm", op.add(self._dense(f"{name}.output.dense", inner), hidden))

    def _attention(self, name: str, hidden: Any, scores: Any) -> Any:
        width = self._weights[f"{name}.query.weight"].shape[0]
        per_head = width // self._bert.heads

        def heads(part: str, scale: float = 1.0) -> Any:  # [texts, heads, tokens, per_head]
            split = op.reshape(self._dense(f"{name}.{part}", hidden, scale), _integers(0, 0, -1, per_head), True)
            return op.transpose(split, _integers(0, 2, 1, 3))

        products = op.matmul(heads("query", per_head**-0.5), heads("key"), False, True)
        shares = op.softmax(op.add(products, scores), 3)
        mixed = op.transpose(op.matmul(shares, heads("value"), False, False), _integers(0, 2, 1, 3))
        return op.reshape(mixed, _integers(0, 0, width), True)

    def _dense(self, name: str, hidden: Any, scale: float = 1.0) -> Any:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        if scale != 1:
            weight, bias = weight * np.float32(scale), bias * np.float32(scale)
        if not self._int8:
            return op.add(op.matmul(hidden, _constant(weight), False, True), _constant(bias))
        steps = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny)
        rounded = op.convert(_constant(np.round(weight / steps).astype(np.int8)), "f32")
        return op.add(op.matmul(hidden, op.multiply(rounded, _constant(steps)), False, True), _constant(bias))

    def _norm(self, name: str, hidden: Any) -> Any:
        centred = op.mvn(hidden, _integers(-1), True, self._bert.epsilon, "inside_sqrt")
        scaled = op.multiply(centred, _constant(self._weights[f"{name}.weight"]))
        return op.add(scaled, _constant(self._weights[f"{name}.bias"]))


def _constant(values: Any) -> Any:
    return op.constant(values, shared_memory=values.ndim > 0)  # the model keeps the array, no copy is made


def _integer(value: int) -> Any:
    return op.constant(np.int32(value))


def _integers(*values: int) -> Any:
    return op.constant(np.array(values, np.int32))
