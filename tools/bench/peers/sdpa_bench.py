#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's attention on a GPU, for kernel_bench to set beside ours.

    sdpa_bench.py OUT

Causal prefills of one layer in bfloat16, 32 query and 8 KV heads of 128, keys
and values contiguous, by the backends of scaled_dot_product_attention that run:
cuDNN and FlashAttention-2. Writes a line each to OUT, with tabs between:

    <name of attention_bench's line> <backend> <microseconds>

The median of several replays of a graph of 8 calls. A chunk (fewer new tokens
than context) takes a mask of the lower right.
"""
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

CASES = [
    (1, 128, 128), (1, 1024, 1024), (1, 2048, 2048), (1, 4096, 4096),
    (1, 8192, 8192), (1, 16384, 16384), (1, 8704, 512), (8, 2048, 2048),
]
BACKENDS = {
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "FA2": SDPBackend.FLASH_ATTENTION,
}
CALLS = 8


def name_of(batch, context, new_tokens):
    return f"prefill 32/8, {batch} x {new_tokens} of {context}"


def microseconds(batch, context, new_tokens, backend):
    def random(heads, tokens):
        return torch.randn(batch, heads, tokens, 128, device="cuda",
                           dtype=torch.bfloat16)

    q, k, v = random(32, new_tokens), random(8, context), random(8, context)
    if new_tokens == context:
        causal = {"is_causal": True}
    else:
        causal = {"attn_mask": causal_lower_right(new_tokens, context)}

    def call():
        for _ in range(CALLS):
            F.scaled_dot_product_attention(q, k, v, enable_gqa=True, **causal)

    with sdpa_kernel(backend):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
    times = []
    for i in range(9):
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        if i >= 2:
            times.append(begin.elapsed_time(end) * 1e3 / CALLS)
    return statistics.median(times)


def main():
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for case in CASES:
            for name, backend in BACKENDS.items():
                try:
                    us = microseconds(*case, backend)
                except RuntimeError as error:
                    print(f"{case} {name}: {str(error).splitlines()[0]}",
                          file=sys.stderr)
                    continue
                print(name_of(*case), name, f"{us:.2f}", sep="\t", file=out,
                      flush=True)


if __name__ == "__main__":
    main()
