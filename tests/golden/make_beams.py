# SPDX-License-Identifier: Apache-2.0
"""Makes the golden beam searches: what Hugging Face transformers' generate()
finds on two of the golden models of make_models.py.

Run in an environment with torch and transformers (the versions that made the
committed files are in each of them), after make_models.py:

    python3 tests/golden/make_beams.py [MODEL ...]

Writes beams/<model>.json: prompts and searches, each with its parameters and
the hypotheses found, best first, with the scores that ranked them.

End-of-sequence ids are tokens that the same search without any runs into, so
that hypotheses end early. A search is kept only if it finds the same when every
log probability is off by up to NOISE, so that token ids can be compared
exactly with an engine that sums in another order.
"""

import itertools
import json
import os
import sys

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = ["llama_gqa", "opt_pre_norm"]
WIDTHS = [2, 3, 4, 8, 16]
LENGTH_PENALTIES = [0.0, 0.6, 1.0, 2.0, -1.0]
EARLY_STOPPING = [True, False, "never"]
PROMPT_LENGTHS = [5, 17, 40]
# Numbers of end-of-sequence ids, and of tokens before one may be chosen.
ENDINGS = [(1, 0), (2, 0), (0, 0), (1, 6), (3, 0)]
MAX_TOKENS = [20, 12, 32]
# Engines that compute in float32 agree within 1e-5 on these models.
NOISE = 1e-4
NUM_NOISY = 3
NUM_ATTEMPTS = 8


class Noise(transformers.LogitsProcessor):
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids, scores):
        noise = torch.rand(scores.shape, generator=self.generator)
        return scores + NOISE * (2 * noise - 1)


def generate(model, prompt, search, seed=None):
    """The n best (tokens, score) of a search."""
    processors = transformers.LogitsProcessorList()
    if seed is not None:
        processors.append(Noise(seed))
    ids = torch.tensor([prompt])
    stops = search["stop_token_ids"]
    model.generation_config.eos_token_id = stops or None
    model.generation_config.pad_token_id = 0
    more = {}
    if search["min_tokens"] > 0:
        more["min_new_tokens"] = search["min_tokens"]
    with torch.no_grad():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=search["width"],
            num_return_sequences=search["n"],
            length_penalty=search["length_penalty"],
            early_stopping=search["early_stopping"],
            max_new_tokens=search["max_tokens"],
            return_dict_in_generate=True,
            output_scores=True,
            logits_processor=processors,
            **more,
        )
    found = []
    for row, score in zip(out.sequences.tolist(), out.sequences_scores.tolist()):
        tokens = row[len(prompt):]
        ends = [i for i, token in enumerate(tokens) if token in stops]
        found.append((tokens[: ends[0] + 1] if ends else tokens, score))
    return found


def likely_endings(model, prompt, search, num, generator):
    """Tokens that hypotheses of the search without endings contain."""
    free = dict(search, stop_token_ids=[], min_tokens=0, n=search["width"])
    found = generate(model, prompt, free)
    last = max(4, search["max_tokens"] * 3 // 4)
    seen = sorted({t for tokens, _ in found for t in tokens[2:last]})
    order = torch.randperm(len(seen), generator=generator).tolist()
    return sorted(seen[i] for i in order[:num])


def is_robust(model, prompt, search, found):
    return all(
        [tokens for tokens, _ in generate(model, prompt, search, seed)]
        == [tokens for tokens, _ in found]
        for seed in range(NUM_NOISY)
    )


def make(name):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        os.path.join(HERE, name), dtype=torch.float32
    ).eval()
    generator = torch.Generator().manual_seed(7)

    def draw(low, high, size=1):
        return torch.randint(low, high, (size,), generator=generator).tolist()

    prompts = [draw(3, model.config.vocab_size, n) for n in PROMPT_LENGTHS]
    searches, num_dropped, num_stopped = [], 0, 0
    grid = itertools.product(WIDTHS, LENGTH_PENALTIES, EARLY_STOPPING)
    for i, (width, penalty, early) in enumerate(grid):
        num_stops, min_tokens = ENDINGS[i % len(ENDINGS)]
        search = dict(
            prompt=i % len(prompts),
            width=width,
            length_penalty=penalty,
            early_stopping=early,
            n=[width, 1, (width + 1) // 2][i % 3],
            min_tokens=min_tokens,
            max_tokens=MAX_TOKENS[(i // 3) % len(MAX_TOKENS)],
        )
        for _ in range(NUM_ATTEMPTS):
            prompt = prompts[search["prompt"]]
            search["stop_token_ids"] = likely_endings(
                model, prompt, search, num_stops, generator
            )
            found = generate(model, prompt, search)
            if is_robust(model, prompt, search, found):
                search["found"] = [
                    dict(tokens=tokens, score=score) for tokens, score in found
                ]
                searches.append(search)
                num_stopped += any(
                    len(tokens) < search["max_tokens"] for tokens, _ in found
                )
                break
            search["prompt"] = (search["prompt"] + 1) % len(prompts)
        else:
            num_dropped += 1
    golden = dict(
        made_with=f"torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
        prompts=prompts,
        searches=searches,
    )
    path = os.path.join(HERE, "beams", name + ".json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")
    print(
        f"{name}: {os.path.getsize(path)} bytes, {len(searches)} searches, "
        f"{num_stopped} of them with an early end, {num_dropped} too near a "
        "tie",
        flush=True,
    )


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or MODELS:
        make(name)


if __name__ == "__main__":
    main()
