#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's linear layer on a GPU, for kernel_bench to set beside ours.

    linear_bench.py OUT

Products of Llama-3.1-8B in bfloat16; weights take turns so that none stays in
the cache. Products alone: ours apply gates and add the residual besides. Writes
a line each to OUT, with tabs between:

    <name of product_bench's line> torch <microseconds>
"""
import statistics
import sys

import torch
import torch.nn.functional as F

SHAPES = {"QKV": (6144, 4096), "O": (4096, 4096), "gate-up": (28672, 4096),
          "down": (4096, 14336), "head": (128256, 4096)}
ROWS = (1, 8, 32, 64, 128, 256, 512, 768, 1920)
MAX_HEAD_ROWS = 512
# Until the clock is what the power limit leaves of it, as product_bench waits.
WARM_US = 1e5


def cases():
    """Name, shape and rows of each product."""
    for shape, (n, k) in SHAPES.items():
        for rows in ROWS:
            if shape != "head" or rows <= MAX_HEAD_ROWS:
                yield f"product {shape}, {rows} rows", n, k, rows


def microseconds(n, k, rows):
    turns = max(2, min(24, (256 << 20) // (2 * n * k) + 1))
    weights = [torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
               for _ in range(turns)]
    x = torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)

    def call():
        for weight in weights:
            F.linear(x, weight)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    times, warm = [], 0.0
    while len(times) < 5:
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        us = begin.elapsed_time(end) * 1e3
        if warm >= WARM_US:
            times.append(us / turns)
        warm += us
    return statistics.median(times)


def main():
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for name, n, k, rows in cases():
            us = microseconds(n, k, rows)
            print(name, "torch", f"{us:.2f}", sep="\t", file=out, flush=True)


if __name__ == "__main__":
    main()
