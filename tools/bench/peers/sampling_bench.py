#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's way from logits to tokens, for sampler_bench to compare with.

    sampling_bench.py OUT

Temperature, then top_k and top_p by sorting the vocabulary, then a draw by
exponential noise: what engines do without a kernel of their own. Logits fall
with the rank as a trained model's do. Writes a line each to OUT:

    <rows> <vocabulary> <filters> <microseconds>
"""
import statistics
import sys

import torch

VOCAB = 128256


def make_logits(rows):
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
        for rows in (1, 32, 256):
            # In turns, so that none stays in the cache.
            logits = [make_logits(rows) for _ in range(2)]
            temperature = torch.full((rows, 1), 0.8, device="cuda")
            k = torch.full((rows,), 50, device="cuda")
            p = torch.full((rows,), 0.9, device="cuda")
            for name, filters in (("none", (None, None)),
                                  ("top_k", (k, None)), ("top_p", (None, p)),
                                  ("top_k+top_p", (k, p))):
                us = microseconds(
                    lambda i: choose(logits[i % 2], temperature, *filters), 7)
                print(rows, VOCAB, name, f"{us:.1f}", file=out, flush=True)


if __name__ == "__main__":
    main()
