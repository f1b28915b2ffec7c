#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What cluster_bench measures, by vLLM.

    vllm_bench.py MODEL_FOLDER RANKS LENGTHS NUM_PROMPTS BATCHES PROMPTS OUT

Made-up bfloat16 weights of the folder's config.json, prompts of random token
ids, outputs of a fixed length, no prefix cache. BATCHES of decodes and lengths
of PROMPTS are separated by commas and may be none. Writes a JSON object of
figures by cluster_bench's names to OUT.
"""
import json
import random
import statistics
import sys
import time

CONTEXT = 512
NUM_PREFILLS = 9  # that follow each other


def numbers(text):
    return [int(number) for number in text.split(",") if number]


class Server:
    """vLLM in this process, and loads of (prompt, output) lengths upon it."""

    def __init__(self, folder, ranks):
        from vllm import LLM, SamplingParams  # takes seconds
        self._sampling = SamplingParams
        self._llm = LLM(model=folder, load_format="dummy",
                        skip_tokenizer_init=True, dtype="bfloat16",
                        tensor_parallel_size=ranks, max_model_len=2048,
                        gpu_memory_utilization=0.9,
                        enable_prefix_caching=False, max_num_seqs=1024,
                        disable_log_stats=True)
        with open(folder + "/config.json", encoding="utf-8") as file:
            self._vocabulary = json.load(file)["vocab_size"]
        self._draw = random.Random(0)

    def prepare(self, shapes):
        """Prompts and sampling, made before the clock starts."""
        prompts = [{"prompt_token_ids": [
            self._draw.randrange(10, self._vocabulary) for _ in range(n)]}
                   for n, _ in shapes]
        return prompts, [
            self._sampling(temperature=0, max_tokens=m, min_tokens=m,
                           ignore_eos=True, detokenize=False)
            for _, m in shapes]

    def seconds(self, prompts, sampling):
        start = time.perf_counter()
        results = self._llm.generate(prompts, sampling, use_tqdm=False)
        end = time.perf_counter()
        made = sum(len(result.outputs[0].token_ids) for result in results)
        assert made == sum(each.max_tokens for each in sampling), made
        return end - start

    def decode_ms(self, batch):
        long, short = (
            min(self.seconds(*self.prepare([(CONTEXT - 96, outputs)] * batch))
                for _ in range(2)) for outputs in (129, 65))
        return (long - short) / 64 * 1e3

    def prefill_ms(self, prompt):
        ready = [self.prepare([(prompt, 1)]) for _ in range(NUM_PREFILLS)]
        return statistics.median(self.seconds(*each) for each in ready) * 1e3


def main():
    folder, ranks, lengths, num_prompts, batches, prompts, out = sys.argv[1:8]
    begin = time.monotonic()
    server = Server(folder, int(ranks))
    found = {"ready, s": time.monotonic() - begin}
    server.seconds(*server.prepare([(64, 16)] * 8))
    for batch in numbers(batches):
        found[f"decode {batch} x {CONTEXT}, ms"] = server.decode_ms(batch)
    for prompt in numbers(prompts):
        found[f"prefill {prompt}, ms"] = server.prefill_ms(prompt)
    with open(lengths, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:int(num_prompts)]
    shapes = [(row["prompt_len"], row["output_len"]) for row in rows]
    found["load, output tok/s"] = sum(
        output for _, output in shapes) / server.seconds(
            *server.prepare(shapes))
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
