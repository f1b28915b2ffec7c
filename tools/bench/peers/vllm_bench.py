#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What cluster_bench measures, by vLLM.

    vllm_bench.py MODEL_FOLDER RANKS LENGTHS NUM_PROMPTS steps|load OUT

Made-up bfloat16 weights of the folder's config.json, prompts of random token
ids, outputs of a fixed length, no prefix cache. Writes a JSON object of figures
by cluster_bench's names to OUT.
"""
import json
import random
import sys
import time

BATCHES = (1, 32, 128, 256)
CONTEXT = 512
PROMPTS = (128, 512, 1920)


def main():
    folder, ranks, lengths, num_prompts, what, out = sys.argv[1:7]
    from vllm import LLM, SamplingParams  # takes seconds
    begin = time.monotonic()
    llm = LLM(model=folder, load_format="dummy", skip_tokenizer_init=True,
              dtype="bfloat16", tensor_parallel_size=int(ranks),
              max_model_len=2048, gpu_memory_utilization=0.9,
              enable_prefix_caching=False, max_num_seqs=1024,
              disable_log_stats=True)
    found = {"ready, s": time.monotonic() - begin}
    with open(folder + "/config.json", encoding="utf-8") as file:
        vocabulary = json.load(file)["vocab_size"]
    draw = random.Random(0)

    def seconds(shapes):
        prompts = [{"prompt_token_ids":
                    [draw.randrange(10, vocabulary - 1000) for _ in range(n)]}
                   for n, _ in shapes]
        sampling = [SamplingParams(temperature=0, max_tokens=m, min_tokens=m,
                                   ignore_eos=True, detokenize=False)
                    for _, m in shapes]
        start = time.perf_counter()
        results = llm.generate(prompts, sampling, use_tqdm=False)
        end = time.perf_counter()
        made = sum(len(r.outputs[0].token_ids) for r in results)
        assert made == sum(m for _, m in shapes), made
        return end - start

    seconds([(64, 16)] * 8)
    if what == "steps":
        for batch in BATCHES:
            long, short = (
                min(seconds([(CONTEXT - 96, outputs)] * batch)
                    for _ in range(2)) for outputs in (129, 65))
            found[f"decode {batch} x {CONTEXT}"] = (long - short) / 64 * 1e3
        for prompt in PROMPTS:
            found[f"prefill {prompt}"] = min(
                seconds([(prompt, 1)]) for _ in range(5)) * 1e3
    with open(lengths, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:int(num_prompts)]
    shapes = [(row["prompt_len"], row["output_len"]) for row in rows]
    found["load, output tok/s"] = sum(m for _, m in shapes) / seconds(shapes)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
