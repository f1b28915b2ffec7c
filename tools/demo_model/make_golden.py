# SPDX-License-Identifier: Apache-2.0
"""Writes what the demo model says under greedy decoding, as a golden file.

The ids come from transformers in fp32 on the CPU, from the bf16 weights as
they are served. A prompt is kept only if at every step the best logit leads
the second by more than --min_gap, so that an engine with other rounding must
still give the same ids.

Usage: python3 make_golden.py --model_dir=model \
           --output=../../tests/golden/demo_model/expected_samples.json
"""

import argparse
import json

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

RAW_PROMPTS = (
    "Once upon a time", "Once upon a time, there was a robot",
    "One rainy morning,", "The little fox", "What is a KV block?",
    "Explain continuous batching.", "Q: What is TTFT?\nA:",
    "What happens if a GPU dies?", "Long ago, in the forest,",
)
CHATS = (
    [("user", "What is a KV block?")],
    [("user", "How do I run Quire?")],
    [("user", "hello")],
    [("user", "Tell me a story about a fox.")],
    [("user", "What is the capital of France?")],
    [("system", "You are a helpful assistant."),
     ("user", "What is copy-on-write?")],
    [("user", "Hi"), ("assistant", "Hello! Ask me for a story."),
     ("user", "Which port is gRPC?")],
    [("user", "Tell me a story about a dragon named Zia and tea")],
)


@torch.no_grad()
def greedy(model, prompt_ids, eos_ids, max_tokens):
    """(output ids, smallest lead of the best logit over the second)."""
    ids, smallest = list(prompt_ids), float("inf")
    while len(ids) < len(prompt_ids) + max_tokens:
        logits = model(torch.tensor([ids])).logits[0, -1]
        best, second = logits.topk(2).values.tolist()
        smallest = min(smallest, best - second)
        ids.append(int(logits.argmax()))
        if ids[-1] in eos_ids:
            break
    return ids[len(prompt_ids):], smallest


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--max_tokens", type=int, default=60)
    parser.add_argument("--min_gap", type=float, default=0.02)
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.model_dir)
    model = AutoModelForCausalLM.from_pretrained(args.model_dir,
                                                 dtype=torch.float32).eval()
    eos_ids = model.generation_config.eos_token_id
    candidates = [({"prompt": text}, tokenizer(text)["input_ids"])
                  for text in RAW_PROMPTS]
    for chat in CHATS:
        messages = [{"role": r, "content": c} for r, c in chat]
        candidates.append((
            {"messages": messages},
            tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False)))

    samples = []
    for sample, prompt_ids in candidates:
        output_ids, gap = greedy(model, prompt_ids, eos_ids, args.max_tokens)
        kept = gap > args.min_gap
        print(f"{'keep' if kept else 'drop'} gap {gap:.4f} {sample}")
        if not kept:
            continue
        stopped = output_ids[-1] in eos_ids
        samples.append({
            **sample,
            "prompt_token_ids": prompt_ids,
            "output_token_ids": output_ids,
            "output_text": tokenizer.decode(output_ids,
                                            skip_special_tokens=True),
            "finish_reason": "stop" if stopped else "length",
            "min_logit_gap": round(gap, 4),
        })
    content = {
        "made_by": "tools/demo_model/make_golden.py",
        "transformers": transformers.__version__,
        "dtype": "float32",
        "max_tokens": args.max_tokens,
        "eos_token_ids": eos_ids,
        "samples": samples,
    }
    with open(args.output, "w", encoding="utf-8") as out:
        json.dump(content, out, indent=1)
        out.write("\n")


if __name__ == "__main__":
    main()
