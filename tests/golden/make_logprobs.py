# SPDX-License-Identifier: Apache-2.0
"""Makes the golden log probabilities: what Hugging Face transformers says of
prompts and greedy outputs on some of the golden models of make_models.py.

Run in an environment with torch and transformers (the versions that made the
committed files are in each of them), after make_models.py:

    python3 tests/golden/make_logprobs.py [MODEL ...]

Writes logprobs/<model>.json: prompts of golden.json with the log probability
and rank of each prompt token but the first, greedy output tokens with theirs,
and the NUM_TOP likeliest tokens beside each.
"""

import json
import os
import sys

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = [
    "gpt2_plain",
    "llama_gqa",
    "mistral_window",
    "mixtral_plain",
    "opt_350m",
    "phi_partial",
    "qwen2_bias",
    "qwen2_moe_shared",
    "qwen3_moe_plain",
    "qwen3_tied",
]
NUM_TOP = 20
NUM_OUTPUTS = 8


def describe(logits, token):
    """Of float32 logits, in double precision."""
    logprobs = torch.log_softmax(logits.double(), dim=-1)
    # Stable: of equals the lower id comes first.
    order = torch.sort(logprobs, descending=True, stable=True).indices
    top = order[:NUM_TOP].tolist()
    return {
        "token": token,
        "logprob": round(logprobs[token].item(), 7),
        "rank": int((logits > logits[token]).sum().item()) + 1,
        "top_ids": top,
        "top_logprobs": [round(logprobs[i].item(), 7) for i in top],
    }


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.makedirs(os.path.join(HERE, "logprobs"), exist_ok=True)
    for name in sys.argv[1:] or MODELS:
        folder = os.path.join(HERE, name)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        with open(os.path.join(folder, "golden.json")) as file:
            prompts = [p["prompt"] for p in json.load(file)["prompts"]]
        found = []
        for prompt in prompts:
            tokens = list(prompt)
            for _ in range(NUM_OUTPUTS):
                with torch.no_grad():
                    logits = model(torch.tensor([tokens])).logits[0]
                tokens.append(int(logits[-1].argmax()))
            found.append(
                {
                    "prompt": [
                        describe(logits[i], tokens[i + 1])
                        for i in range(len(prompt) - 1)
                    ],
                    "first": prompt[0],
                    "outputs": [
                        describe(logits[i], tokens[i + 1])
                        for i in range(len(prompt) - 1, len(tokens) - 1)
                    ],
                }
            )
        made_with = "torch %s, transformers %s" % (
            torch.__version__,
            transformers.__version__,
        )
        path = os.path.join(HERE, "logprobs", name + ".json")
        with open(path, "w") as file:
            json.dump({"made_with": made_with, "prompts": found}, file)
            file.write("\n")
        print(path, os.path.getsize(path))


main()
