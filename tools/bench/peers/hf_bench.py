#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cluster_bench's load, by continuous batching of transformers 5.

    hf_bench.py MODEL_FOLDER LENGTHS NUM_PROMPTS OUT

Made-up bfloat16 weights of the folder's config.json on one GPU, prompts of
random token ids, outputs of a fixed length, no shared blocks, all requests at
once. Attention is its paged SDPA: what needs no kernel from a network. Writes a
JSON object of figures by cluster_bench's names to OUT.
"""
import json
import random
import sys
import time

MAX_OUTPUT = 2048


class Requests:
    """Requests of (prompt, output) lengths to a running manager."""

    def __init__(self, manager, vocabulary):
        self._manager = manager
        self._vocabulary = vocabulary
        self._draw = random.Random(0)

    def seconds(self, shapes):
        prompts = [[self._draw.randrange(10, self._vocabulary)
                    for _ in range(n)] for n, _ in shapes]
        start = time.perf_counter()
        left = {self._manager.add_request(prompt, max_new_tokens=output): output
                for prompt, (_, output) in zip(prompts, shapes)}
        while left:
            result = self._manager.get_result(timeout=1)
            if result is None:
                assert self._manager.is_running(), "it ended by itself"
                continue
            assert result.error is None, result.error
            if result.is_finished():
                made = len(result.generated_tokens)
                assert made == left.pop(result.request_id), made
        return time.perf_counter() - start


def main():
    folder, lengths, num_prompts, out = sys.argv[1:5]
    import torch  # takes seconds
    import transformers
    begin = time.monotonic()
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16,
            attn_implementation="paged|sdpa").eval()
    # No token ends a sequence.
    generation = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=MAX_OUTPUT, eos_token_id=-1,
        pad_token_id=0)
    batching = transformers.ContinuousBatchingConfig(allow_block_sharing=False)
    with open(lengths, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:int(num_prompts)]
    shapes = [(row["prompt_len"], row["output_len"]) for row in rows]
    with model.continuous_batching_context_manager(
            generation_config=generation,
            continuous_batching_config=batching) as manager:
        found = {"ready, s": time.monotonic() - begin}
        requests = Requests(manager, config.vocab_size)
        requests.seconds([(64, 16)] * 8)
        found["load, output tok/s"] = sum(
            output for _, output in shapes) / requests.seconds(shapes)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
