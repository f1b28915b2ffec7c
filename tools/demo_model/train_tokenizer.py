# SPDX-License-Identifier: Apache-2.0
"""Trains the tokenizer of the demo model: byte-level BPE, 4096 tokens.

All 256 bytes are in the vocabulary, so any UTF-8 text can be encoded and comes
back unchanged. Writes tokenizer.json, tokenizer_config.json (with the chat
template) and special_tokens_map.json.

Usage: python3 train_tokenizer.py --corpus_dir=corpus --output_dir=model
"""

import argparse
import glob
import json
import os

from tokenizers import (AddedToken, Tokenizer, decoders, models,
                        pre_tokenizers, processors, trainers)

VOCAB_SIZE = 4096
MAX_LENGTH = 2048  # tokens
# The order fixes the ids: bos 0, eos 1, and so on.
SPECIAL_TOKENS = ("<|bos|>", "<|eos|>", "<|pad|>", "<|system|>", "<|user|>",
                  "<|assistant|>", "<|end|>", "<|unused|>")

# Plain Jinja, so that small engines render it too. Content may be a string or
# a list of parts of type "text".
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}"
    "{{ message['content'] | trim }}"
    "{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}"
    "{% endif %}"
    "{{ '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def corpus_text(corpus_dir, max_documents):
    """Yields the parts of the first documents, without special tokens."""
    paths = sorted(glob.glob(os.path.join(corpus_dir, "*.jsonl")))
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if number >= max_documents // len(paths):
                    break
                for text, _ in json.loads(line):
                    for token in SPECIAL_TOKENS:
                        text = text.replace(token, "\n")
                    yield text.strip("\n")


def train(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[AddedToken(t, special=True, normalized=False)
                        for t in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    # A raw prompt starts with bos; the chat template writes its own.
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<|bos|> $A",
            pair="<|bos|> $A $B",
            special_tokens=[("<|bos|>", 0)]),
    ])
    return tokenizer


def save(tokenizer, output_dir):
    os.makedirs(output_dir, exist_ok=True)
    tokenizer.save(os.path.join(output_dir, "tokenizer.json"))
    roles = {"bos_token": "<|bos|>", "eos_token": "<|eos|>",
             "pad_token": "<|pad|>"}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **roles,
        "additional_special_tokens": list(SPECIAL_TOKENS[3:7]),
        "add_bos_token": True,
        "add_eos_token": False,
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    for name, content in (("tokenizer_config.json", config),
                          ("special_tokens_map.json", roles)):
        with open(os.path.join(output_dir, name), "w",
                  encoding="utf-8") as out:
            json.dump(content, out, indent=2)
            out.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--corpus_dir", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--max_documents", type=int, default=120_000)
    args = parser.parse_args()

    tokenizer = train(corpus_text(args.corpus_dir, args.max_documents))
    size = tokenizer.get_vocab_size()
    if size != VOCAB_SIZE:
        raise SystemExit(f"the corpus gives {size} tokens, not {VOCAB_SIZE}: "
                         "it has too few different words")
    for text in ("Once upon a time", "Ünïcode, 漢字 and 🦊\n\ttabs", ""):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if tokenizer.decode(ids) != text:
            raise SystemExit(f"does not come back unchanged: {text!r}")
    save(tokenizer, args.output_dir)
    print(f"{size} tokens in {args.output_dir}/tokenizer.json")


if __name__ == "__main__":
    main()
