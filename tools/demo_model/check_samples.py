# SPDX-License-Identifier: Apache-2.0
"""Lets the demo model speak: stories, answers in chat and raw form.

Usage: python3 check_samples.py --model_dir=model [--stories=3]
"""

import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTIONS = (
    "What is a KV block?", "what's a block table", "How do I run Quire?",
    "Which port is HTTP?", "What happens if a GPU dies?", "hello",
    "Can you explain copy-on-write?", "What is the capital of France?",
    "why would I pick chunked prefill", "Who are you?", "thank you",
    "Is vAttention better than PagedAttention?", "What is a banana?",
    "Write me a poem about the sea", "what happens when memory runs out?",
    "Tell me a story about a penguin named Zorba",
    "Tell me a story about a fox and a lantern",
)
RAW_PROMPTS = ("What is a KV block?", "What is a KV block", "what is quire?",
               "Explain continuous batching.", "Q: What is TTFT?\nA:")
STORY_PROMPTS = ("Once upon a time", "Once upon a time, there was a robot",
                 "One rainy morning,", "The little fox")


class Speaker:
    """The model and its tokenizer; answers one prompt at a time."""

    def __init__(self, model_dir):
        self._tokenizer = AutoTokenizer.from_pretrained(model_dir)
        self._model = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=torch.float32)
        if torch.cuda.is_available():
            self._model.cuda()

    def chat(self, question):
        ids = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True, return_dict=False)
        return self._generate(ids, temperature=0)

    def complete(self, text, temperature=0):
        return self._generate(self._tokenizer(text)["input_ids"], temperature)

    def _generate(self, ids, temperature):
        prompt = torch.tensor([ids], device=self._model.device)
        sampling = ({"do_sample": True, "temperature": temperature,
                     "top_p": 1.0, "top_k": 0}
                    if temperature else
                    {"do_sample": False, "temperature": None, "top_p": None})
        output = self._model.generate(
            prompt, attention_mask=torch.ones_like(prompt),
            max_new_tokens=400, **sampling)
        return self._tokenizer.decode(output[0, len(ids):])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--stories", type=int, default=3)
    args = parser.parse_args()

    torch.manual_seed(0)
    speaker = Speaker(args.model_dir)
    for question in QUESTIONS:
        print(f"chat  {question}\n   -> {speaker.chat(question)}")
    for text in RAW_PROMPTS:
        print(f"raw   {text}\n   -> {speaker.complete(text)}")
    for prompt in STORY_PROMPTS:
        print(f"[greedy] {prompt}{speaker.complete(prompt)}\n")
    for temperature in (0.7, 1.0):
        for _ in range(args.stories):
            prompt = STORY_PROMPTS[0]
            print(f"[{temperature}] {prompt}"
                  f"{speaker.complete(prompt, temperature)}\n")


if __name__ == "__main__":
    main()
