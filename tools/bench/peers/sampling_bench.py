#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's way from logits to tokens on a GPU, for kernel_bench.

    sampling_bench.py OUT

Temperature, then top_k and top_p by sorting the vocabulary, then a draw by
exponential noise: what engines do without a kernel of their own. Peaked logits
fall with the rank as a trained model's do, flat ones are normal. Writes a line
each to OUT, with tabs between:

    <name of sampler_bench's line> torch <microseconds>
"""
import itertools
import statistics
import sys

import torch

VOCAB = 128256
# Whether top_k, and whether top_p cuts.
FILTERS = {"temperature": (False, False), "top_k 50": (True, False),
           "top_p 0.9": (False, True), "top_k 50 and top_p 0.9": (True, True)}
ROWS = (1, 32, 256)
KINDS = ("peaked", "flat")


def name_of(filters, rows, kind):
    return f"sampling by {filters}, {rows} rows, {kind}"


def make_logits(rows, kind):
    if kind == "flat":
        return torch.randn(rows, VOCAB, device="cuda")
    ranks = torch.arange(1, VOCAB + 1, device="cuda", dtype=torch.float32)
    base = -1.4 * torch.log(ranks)
    logits = torch.empty(rows, VOCAB, device="cuda")
    for row in range(rows):
        logits[row] = base[torch.randperm(VOCAB, device="cuda")]
    return logits


def choose(logits, temperature, k, p):
    logits = logits / temperature
    if k is not None or p is not None:
        ordered, index = logits.sort(dim=-1, descending=False)
        if k is not None:
            at = (ordered.size(1) - k.to(torch.long)).unsqueeze(1)
            ordered.masked_fill_(ordered < ordered.gather(1, at), -float("inf"))
        if p is not None:
            mass = ordered.softmax(dim=-1).cumsum(dim=-1)
            cut = mass <= 1 - p.unsqueeze(1)
            cut[:, -1] = False
            ordered.masked_fill_(cut, -float("inf"))
        logits = logits.scatter(dim=-1, index=index, src=ordered)
    probs = logits.softmax(dim=-1)
    return probs.div_(torch.empty_like(probs).exponential_()).argmax(dim=-1)


def microseconds(call, repeats):
    call(0)
    times = []
    for i in range(repeats):
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        call(i)
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1e3)
    return statistics.median(times)


def main():
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for rows, kind in itertools.product(ROWS, KINDS):
            # In turns, so that none stays in the cache.
            logits = [make_logits(rows, kind) for _ in range(2)]
            temperature = torch.full((rows, 1), 0.8, device="cuda")
            k = torch.full((rows,), 50, device="cuda")
            p = torch.full((rows,), 0.9, device="cuda")
            for filters, (has_k, has_p) in FILTERS.items():
                us = microseconds(
                    lambda i: choose(logits[i % 2], temperature,
                                     k if has_k else None,
                                     p if has_p else None), 7)
                print(name_of(filters, rows, kind), "torch", f"{us:.1f}",
                      sep="\t", file=out, flush=True)


if __name__ == "__main__":
    main()
