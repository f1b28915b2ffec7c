# SPDX-License-Identifier: Apache-2.0
"""What steps of a dense bfloat16 model take at least on H200s.

A step reads all weights once, or multiplies by them where that takes longer;
decodes read their keys and values; ranks sum twice a layer. A sum is bounded by
what it takes at all and by the bytes that a rank receives: those of one operand
with two ranks, up to two with more. tools/bench/step_floor.h has the same.
"""
import json

READ_BYTES = 4.3e12  # a second
PRODUCT_FLOP = 790e12  # a second, bfloat16
SUM_SECONDS = 3.5e-6  # of the smallest sum
LINK_BYTES = 370e9  # a second into a GPU


class Shape:
    """Sizes of a model, by the config.json of a folder."""

    def __init__(self, folder: str):
        with open(f"{folder}/config.json", encoding="utf-8") as file:
            config = json.load(file)
        if config.get("num_local_experts") or config.get("num_experts"):
            raise ValueError(f"{folder}: floors are of dense models")
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim", config["hidden_size"] // heads)
        self.layers = config["num_hidden_layers"]
        self.hidden = config["hidden_size"]
        self.q_size = heads * head_dim
        self.head_dim = head_dim
        self.kv_heads = config.get("num_key_value_heads", heads)
        mlp = (2 * config["ffn_dim"] if "ffn_dim" in config else
               3 * config["intermediate_size"])
        # Elements that a layer and the head multiply by.
        self.layer_weights = self.hidden * (
            2 * self.q_size + 2 * self.kv_heads * head_dim + mlp)
        self.head_weights = self.hidden * config["vocab_size"]

    def kv_bytes(self, ranks: int) -> float:
        """Bytes of a token's keys and values on one rank."""
        kv_heads = max(1, self.kv_heads / ranks)
        return 2 * 2 * self.layers * kv_heads * self.head_dim

    def product_seconds(self, tokens: float, sampled: float,
                        ranks: int, other_flop: float = 0) -> float:
        layers = self.layers * self.layer_weights
        read = 2 * (layers + self.head_weights) / READ_BYTES
        flop = 2 * (layers * tokens + self.head_weights * sampled) + other_flop
        return max(read, flop / PRODUCT_FLOP) / ranks

    def link_seconds(self, tokens: float, ranks: int) -> float:
        """What the bytes of all sums of a step take."""
        received = 2 * (ranks - 1) / ranks
        return 2 * self.layers * received * 2 * self.hidden * tokens / LINK_BYTES

    def sum_seconds(self, tokens: float, ranks: int) -> float:
        if ranks == 1:
            return 0
        return (2 * self.layers * SUM_SECONDS +
                self.link_seconds(tokens, ranks))


def decode_seconds(shape: Shape, batch: int, context: int,
                   ranks: int = 1) -> float:
    """A step of `batch` sequences that attend to `context` tokens each."""
    return (shape.product_seconds(batch, batch, ranks) +
            batch * context * shape.kv_bytes(ranks) / READ_BYTES +
            shape.sum_seconds(batch, ranks))


def prompt_seconds(shape: Shape, tokens: int, ranks: int = 1) -> float:
    """A prompt alone, to its first token. Every layer computes every row here:
    one that computes only what is read of its last layer does a layer less."""
    attention = 2 * shape.layers * shape.q_size * tokens * tokens
    return (shape.product_seconds(tokens, 1, ranks, attention) +
            shape.sum_seconds(tokens, ranks))


def output_rate(shape: Shape, prompt: float, output: float, ranks: int = 1,
                groups: int = 1) -> float:
    """Output tokens a second that no server passes whose products and reads of
    keys and values follow each other, at any batch: lengths are means."""
    tokens = (prompt + output) / output  # computed for each output token
    products = 2 * (shape.layers * shape.layer_weights * tokens +
                    shape.head_weights) / PRODUCT_FLOP / ranks
    reads = (prompt + output / 2) * shape.kv_bytes(ranks) / READ_BYTES
    return groups / (products + reads + shape.link_seconds(tokens, ranks))
