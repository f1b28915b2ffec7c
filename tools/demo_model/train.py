# SPDX-License-Identifier: Apache-2.0
"""Trains the demo model: a Llama of eight million parameters, on one GPU.

Reads the corpus and the tokenizer, writes config.json, generation_config.json
and model.safetensors (bf16) beside the tokenizer. Weights and optimizer state
are fp32, the arithmetic is bf16 (autocast), the schedule is a cosine.

Usage: python3 train.py --corpus_dir=corpus --model_dir=model --steps=6000
"""

import argparse
import glob
import json
import math
import multiprocessing
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

import facts

BOS, EOS, PAD, END = 0, 1, 2, 6  # as train_tokenizer.py numbers them
# Token ids need 12 bits; this one marks a token that is read but not learnt.
NOT_LEARNT = 1 << 15
IGNORE = -100  # the label that cross_entropy skips
# Most stories should be seen from their true position on, so most rows are
# short; the long ones teach the model its whole context.
SHORT_ROW, LONG_ROW = 512, 2048  # tokens
LONG_SHARE = 0.4  # of all tokens


def model_config():
    """The shape of the model. All head counts divide by 2, for TP 2."""
    return LlamaConfig(
        vocab_size=4096, hidden_size=384, intermediate_size=768,
        num_hidden_layers=5, num_attention_heads=6, num_key_value_heads=2,
        head_dim=64, max_position_embeddings=LONG_ROW, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True, attention_bias=False, mlp_bias=False,
        bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
        initializer_range=0.02, use_cache=True)


# -- data --------------------------------------------------------------------


def _encode_shard(job):
    """One shard as (tokens with the NOT_LEARNT bit, start of each document)."""
    path, tokenizer_path = job
    tokenizer = Tokenizer.from_file(tokenizer_path)
    with open(path, encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    parts = [part for document in documents for part in document]
    encoded = tokenizer.encode_batch_fast([text for text, _ in parts],
                                          add_special_tokens=False)
    pieces = [np.array(e.ids, np.uint16) | (0 if learn else NOT_LEARNT)
              for e, (_, learn) in zip(encoded, parts)]
    lengths = np.cumsum([0] + [len(p) for p in pieces])
    part_counts = np.cumsum([0] + [len(d) for d in documents])
    return (np.concatenate(pieces).astype(np.uint16),
            lengths[part_counts].astype(np.int64))


def pack_rows(documents, row_length):
    """Documents joined to rows [num_rows, row_length].

    A row begins with the beginning of a document; what sticks out of its end
    is dropped.
    """
    rows, row, used = [], np.empty(row_length, np.uint16), 0
    for document in documents:
        taken = min(len(document), row_length - used)
        row[used : used + taken] = document[:taken]
        used += taken
        if used == row_length:
            rows.append(row)
            row, used = np.empty(row_length, np.uint16), 0
    return np.stack(rows)


def load_rows(corpus_dir, tokenizer_path, seed):
    """(short rows, long rows) of the whole corpus, shuffled."""
    jobs = [(path, tokenizer_path)
            for path in sorted(glob.glob(os.path.join(corpus_dir, "*.jsonl")))]
    documents = []
    with multiprocessing.get_context("spawn").Pool(min(len(jobs), 16)) as pool:
        for tokens, starts in pool.imap(_encode_shard, jobs):
            documents += np.split(tokens, starts[1:-1])
    random.Random(seed).shuffle(documents)
    split = int(len(documents) * LONG_SHARE)
    return (pack_rows(documents[split:], SHORT_ROW),
            pack_rows(documents[:split], LONG_ROW))


class RowStream:
    """Endless shuffled batches of rows that live on the GPU."""

    def __init__(self, rows, rows_per_batch, generator):
        self._rows = torch.from_numpy(rows.view(np.int16)).cuda()
        self._rows_per_batch = rows_per_batch
        self._generator = generator
        self._order = torch.empty(0, dtype=torch.long)

    def next_batch(self):
        """(inputs, labels), each [rows_per_batch, row length]."""
        if len(self._order) < self._rows_per_batch:
            self._order = torch.randperm(len(self._rows),
                                         generator=self._generator)
        picked = self._order[: self._rows_per_batch]
        self._order = self._order[self._rows_per_batch :]
        packed = self._rows[picked.cuda()].long() & 0xFFFF
        inputs = packed & (NOT_LEARNT - 1)
        labels = torch.where(packed >= NOT_LEARNT, IGNORE, inputs)
        return inputs, labels


# -- training ----------------------------------------------------------------


def loss_of(model, inputs, labels):
    logits = model(input_ids=inputs, use_cache=False).logits[:, :-1]
    return F.cross_entropy(logits.float().flatten(0, 1),
                           labels[:, 1:].flatten(), ignore_index=IGNORE)


def learning_rate(step, steps, peak):
    """Linear warm-up over 200 steps, then a cosine to a hundredth."""
    warmup = min(200, steps // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / (steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(model, streams, validation, args):
    """Runs the steps; returns the log as a list of dictionaries."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05},
         {"params": others, "weight_decay": 0.0}],
        lr=args.learning_rate, betas=(0.9, 0.95), fused=True)
    compiled = torch.compile(loss_of)
    chooser = random.Random(args.seed)
    log, start, steps = [], time.monotonic(), args.steps
    timed_from = None
    for step in range(steps):
        if step >= steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, args.learning_rate)
        stream = streams[1 if chooser.random() < LONG_SHARE else 0]
        inputs, labels = stream.next_batch()
        with torch.autocast("cuda", torch.bfloat16):
            loss = compiled(model, inputs, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step == 40:  # compiled by now
            torch.cuda.synchronize()
            timed_from = time.monotonic()
        if step == 140 and args.max_minutes:
            torch.cuda.synchronize()
            per_step = (time.monotonic() - timed_from) / 100
            left = args.max_minutes * 60 - (time.monotonic() - start)
            steps = min(steps, step + int(left / per_step))
            print(f"{per_step * 1e3:.1f} ms a step, so {steps} steps",
                  flush=True)
        if step % 250 == 0 or step == steps - 1:
            row = {"step": step, "train_loss": round(loss.item(), 4),
                   "seconds": round(time.monotonic() - start, 1)}
            if step % 1000 == 0 or step == steps - 1:
                with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
                    row["validation_loss"] = round(sum(
                        compiled(model, *batch).item()
                        for batch in validation) / len(validation), 4)
            log.append(row)
            print(row, flush=True)
    return log


# -- what came out -----------------------------------------------------------


def answer_accuracy(model, tokenizer, held_out, batch_size=256):
    """Share of questions that greedy decoding answers exactly.

    Greedy decoding gives the expected answer if and only if every token of it
    is the most likely one after the tokens before it, so one forward pass over
    question and answer tells. Returns {"chat": share, "raw": share}.
    """
    pairs = [(q, f.answer) for f in facts.FACTS + facts.SMALL_TALK
             for q in facts.questions(f) if facts.is_held_out(f, q) == held_out]
    random.Random(0).shuffle(pairs)
    forms = {"chat": ("<|bos|><|user|>{}<|end|><|assistant|>", "{}<|end|>"),
             "raw": ("<|bos|>{}", "\n{}<|eos|>")}
    shares = {}
    for form, (before, after) in forms.items():
        right, wrong = 0, []
        for first in range(0, min(len(pairs), 4096), batch_size):
            rows, starts = [], []
            for question, answer in pairs[first : first + batch_size]:
                prompt = tokenizer.encode(before.format(question),
                                          add_special_tokens=False).ids
                rows.append(prompt + tokenizer.encode(
                    after.format(answer), add_special_tokens=False).ids)
                starts.append(len(prompt))
            width = max(map(len, rows))
            ids = torch.tensor([r + [PAD] * (width - len(r)) for r in rows],
                               device=model.device)
            with torch.no_grad():
                guesses = model(input_ids=ids).logits.argmax(-1)
            for i, (row, begin) in enumerate(zip(rows, starts)):
                exact = (guesses[i, begin - 1 : len(row) - 1].tolist()
                         == row[begin:])
                right += exact
                if not exact:
                    wrong.append(pairs[first + i][0])
        shares[form] = round(right / min(len(pairs), 4096), 4)
        print(form, "not exact:", wrong[:40])
    return shares


def save(model, model_dir):
    """Writes bf16 weights and configs that old and new readers understand."""
    model.to(torch.bfloat16).save_pretrained(model_dir)
    path = os.path.join(model_dir, "config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config["rope_theta"] = 10000.0  # its place before transformers 5
    config["torch_dtype"] = "bfloat16"  # "dtype" since transformers 4.56
    config["eos_token_id"] = [EOS, END]
    _write_json(path, config)
    _write_json(os.path.join(model_dir, "generation_config.json"), {
        "bos_token_id": BOS, "eos_token_id": [EOS, END], "pad_token_id": PAD,
        "do_sample": True, "temperature": 0.7, "top_p": 0.95})


def _write_json(path, content):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(content, out, indent=2, sort_keys=True)
        out.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--corpus_dir", required=True)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--max_minutes", type=float, default=0,
                        help="fewer steps if they would take longer; 0 = off")
    parser.add_argument("--batch_tokens", type=int, default=65536)
    parser.add_argument("--learning_rate", type=float, default=2.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    tokenizer_path = os.path.join(args.model_dir, "tokenizer.json")
    started = time.monotonic()
    rows = load_rows(args.corpus_dir, tokenizer_path, args.seed)
    print(f"rows: {rows[0].shape} and {rows[1].shape}, "
          f"{sum(r.size for r in rows) / 1e6:.1f} M tokens, packed in "
          f"{time.monotonic() - started:.0f} s", flush=True)

    generator = torch.Generator().manual_seed(args.seed)
    streams, validation = [], []
    for part in rows:
        per_batch = args.batch_tokens // part.shape[1]
        held, kept = part[: 2 * per_batch], part[2 * per_batch :]
        stream = RowStream(held, per_batch, generator)
        validation += [stream.next_batch() for _ in range(2)]
        streams.append(RowStream(kept, per_batch, generator))

    model = LlamaForCausalLM(model_config()).cuda()
    num_parameters = sum(p.numel() for p in model.parameters())
    print(f"{num_parameters:,} parameters", flush=True)
    log = train(model, streams, validation, args)

    model.eval()
    save(model, args.model_dir)
    model.float()  # the rounded weights, as they will be served
    tokenizer = Tokenizer.from_file(tokenizer_path)
    summary = {
        "parameters": num_parameters,
        "corpus_tokens": int(sum(r.size for r in rows)),
        "steps": log[-1]["step"] + 1,
        "tokens_seen": (log[-1]["step"] + 1) * args.batch_tokens,
        "seconds": log[-1]["seconds"],
        "train_loss": log[-1]["train_loss"],
        "validation_loss": log[-1]["validation_loss"],
        "accuracy_known_phrasings":
            answer_accuracy(model, tokenizer, held_out=False),
        "accuracy_held_out_phrasings":
            answer_accuracy(model, tokenizer, held_out=True),
    }
    print(json.dumps(summary, indent=2))
    _write_json(os.path.join(args.model_dir, "training_log.json"),
                {"summary": summary, "log": log})


if __name__ == "__main__":
    main()
