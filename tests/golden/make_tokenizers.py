#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the small tokenizers of tests/common/text/testdata and their goldens.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python tests/golden/make_tokenizers.py [kind ...]

Each <kind>.json is a tokenizer.json; <kind>.golden.json holds what Hugging
Face's own library makes of a list of texts and of random ids. The tests read
both and need neither Python nor the library. Training breaks ties in another
order on each run, so a file and its golden are only ever replaced together.
"""
import json
import pathlib
import random
import sys

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models,
                        normalizers, pre_tokenizers, processors, trainers)

OUT = pathlib.Path(__file__).resolve().parent.parent / "common/text/testdata"

WORDS = ("the a one two scheduler block table token cache worker answer "
         "reader river stone paper lamp garden window quiet bright slow early "
         "writes reads keeps finds shares moves waits ends begins returns "
         "under over between after before without every any its their").split()

TEXTS = [
    "",
    " ",
    "a",
    "Hello world",
    " Hello  world ",
    "The scheduler keeps the block table.",
    "line one\nline two\r\n\n\ttabbed",
    "don't can't we'll I'm",
    "naïve café – “quoted”",
    "Zürich, Škoda, Łódź",
    "你好，世界",
    "日本語のテキスト",
    "Привет, мир",
    "שלום עולם",
    "مرحبا بالعالم",
    "สวัสดีชาวโลก",
    "😀😃 👩‍👩‍👧‍👦 🇨🇭",
    "e\u0301 \u0301 \u200b \ufeff",
    "x = 1234567890; y = 3.14159;",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u0000\u0001\u007f",
    "<|user|>forged<|end|>",
    "<s>forged</s>",
    "[CLS] forged [SEP]",
    "\U0010ffff \ufffd",
]


def corpus():
    """Sentences enough to learn merges from; the same on every run."""
    rng = random.Random(11)
    for _ in range(3000):
        n = rng.randint(4, 12)
        sentence = " ".join(rng.choice(WORDS) for _ in range(n))
        yield sentence.capitalize() + rng.choice([".", "!", "?", ", 12."])
    for text in TEXTS[3:17]:
        yield text


def byte_level():
    """GPT-2 and Llama 3: bytes as letters, a regular expression, BOS."""
    tok = Tokenizer(models.BPE(ignore_merges=False))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(
            Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
                  r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
                  r"\s+(?!\S)|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=600,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.add_special_tokens(["<|begin|>", "<|end|>", "<|user|>", "<|answer|>"])
    tok.add_tokens([AddedToken("<think>", special=False)])
    tok.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A",
        special_tokens=[("<|begin|>", tok.token_to_id("<|begin|>"))])
    return tok


def gpt2():
    """GPT-2 and OPT: byte level with its own pattern, one control token."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=400,
            show_progress=False,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tok


def byte_fallback():
    """Llama 2: SentencePiece BPE as Hugging Face converts it."""
    tok = Tokenizer(
        models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        (t for t in corpus() if t.isascii()),
        trainers.BpeTrainer(vocab_size=330, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>"]
    tokens += [f"<0x{b:02X}>" for b in range(256)]
    tokens += sorted(model["vocab"], key=model["vocab"].get)
    full = json.loads(tok.to_str())
    full["model"]["vocab"] = {t: i for i, t in enumerate(tokens)}
    full["model"]["merges"] = model["merges"]
    tok = Tokenizer.from_str(json.dumps(full))
    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    tok.decoder = decoders.Sequence([
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)])
    return tok


def unigram():
    """T5: SentencePiece unigram, metaspace, end-of-text after."""
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.NFKC()
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.decoder = decoders.Metaspace()
    tok.train_from_iterator(
        corpus(),
        trainers.UnigramTrainer(
            vocab_size=300,
            show_progress=False,
            unk_token="<unk>",
            special_tokens=["<pad>", "</s>", "<unk>", "<s>"]))
    tok.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)])
    return tok


def word_piece():
    """BERT: lower case, words, ## continuations, cleanup when decoding."""
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.train_from_iterator(
        corpus(),
        trainers.WordPieceTrainer(
            vocab_size=320,
            show_progress=False,
            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tok


def bpe_suffix():
    """CLIP and GPT-1: lower case, a suffix at the end of a word."""
    tok = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tok.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase()])
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.BPEDecoder()
    tok.train_from_iterator(
        (t for t in corpus() if t.isascii()),
        trainers.BpeTrainer(
            vocab_size=250,
            show_progress=False,
            end_of_word_suffix="</w>",
            special_tokens=["<unk>", "<s>"]))
    return tok


def qwen():
    """Qwen 2 to 3: NFC, single digits, many added tokens, not all control."""
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(
            Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
                  r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|"
                  r"\s+"), "isolated"),
        pre_tokenizers.ByteLevel(
            add_prefix_space=False, trim_offsets=False, use_regex=False),
    ])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=420,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tok.add_tokens([
        AddedToken(name, special=False, normalized=False)
        for name in ("<tool_call>", "</tool_call>", "<think>", "</think>")
    ])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    return tok


def byte_fallback_model(vocab_size, extra):
    """A BPE of SentencePiece's with all bytes, and `extra` tokens first."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        (t for t in corpus() if t.isascii()),
        trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    tokens = extra + [f"<0x{b:02X}>" for b in range(256)]
    tokens += sorted(model["vocab"], key=model["vocab"].get)
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" "))
              for m in model["merges"]]
    return models.BPE(
        vocab={t: i for i, t in enumerate(tokens)}, merges=merges,
        unk_token="<unk>", byte_fallback=True, fuse_unk=True)


def gemma():
    """Gemma: spaces as letters, no prefix, control tokens in the text."""
    tok = Tokenizer(
        byte_fallback_model(300, ["<pad>", "<eos>", "<bos>", "<unk>"]))
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tok.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tok.add_special_tokens([
        "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"])
    tok.add_tokens([AddedToken("\n\n", special=False, normalized=False)])
    tok.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)])
    return tok


def metaspace_first():
    """Mistral and late Llama 2: a prefix space at the very beginning alone."""
    tok = Tokenizer(byte_fallback_model(310, ["<unk>", "<s>", "</s>"]))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement="▁", prepend_scheme="first", split=False)
    tok.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    tok.add_special_tokens(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)])
    return tok


def word_level():
    """Whole words and no decoder: blanks between all tokens."""
    tok = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.train_from_iterator(
        corpus(),
        trainers.WordLevelTrainer(
            vocab_size=120, show_progress=False,
            special_tokens=["<unk>", "<s>"]))
    return tok


def ctc():
    """Letters of speech: repeated ones are one, a bar is a blank."""
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|"] + [
        chr(c) for c in range(ord("a"), ord("z") + 1)]
    tok = Tokenizer(models.WordLevel(
        vocab={t: i for i, t in enumerate(letters)}, unk_token="<unk>"))
    tok.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(" ", "|")])
    tok.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tok.decoder = decoders.CTC(
        pad_token="<pad>", word_delimiter_token="|", cleanup=True)
    tok.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    return tok


def is_byte_token(token):
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def has_broken_byte_run(tok, ids):
    """Whether a run of byte tokens in `ids` is not UTF-8.

    Hugging Face then gives up the run's good characters too; Quire keeps them,
    as SentencePiece does (common/text/ffi/src/decoder.rs).
    """
    run = bytearray()
    for token in [tok.id_to_token(i) for i in ids] + [""]:
        if is_byte_token(token):
            run.append(int(token[3:5], 16))
            continue
        try:
            run.decode()
        except UnicodeDecodeError:
            return True
        run.clear()
    return False


def golden(tok, seed):
    rng = random.Random(seed)
    encode = []
    for text in TEXTS:
        tok.encode_special_tokens = True
        as_text = tok.encode(text, add_special_tokens=False).ids
        tok.encode_special_tokens = False
        parsed = tok.encode(text, add_special_tokens=True).ids
        encode.append({
            "text": text,
            "as_text": as_text,
            "parsed_with_special": parsed,
            "decoded": tok.decode(as_text, skip_special_tokens=True),
            "decoded_all": tok.decode(parsed, skip_special_tokens=False),
        })
    decode = []
    size = tok.get_vocab_size()
    while len(decode) < 40:
        ids = [rng.randrange(size) for _ in range(rng.randint(1, 24))]
        if has_broken_byte_run(tok, ids):
            continue
        decode.append({
            "ids": ids,
            "text": tok.decode(ids, skip_special_tokens=True),
            "text_all": tok.decode(ids, skip_special_tokens=False),
        })
    return {"encode": encode, "decode": decode}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    kinds = [
        byte_level, byte_fallback, unigram, word_piece, bpe_suffix, gpt2, qwen,
        gemma, metaspace_first, word_level, ctc]
    for seed, make in enumerate(kinds):
        name = make.__name__
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        tok = make()
        compact = json.dumps(
            json.loads(tok.to_str()), ensure_ascii=False, separators=(",", ":"))
        (OUT / f"{name}.json").write_text(compact + "\n", encoding="utf-8")
        tok = Tokenizer.from_str(compact)
        data = json.dumps(golden(tok, seed), separators=(",", ":"))
        (OUT / f"{name}.golden.json").write_text(data + "\n", encoding="utf-8")
        print(name, tok.get_vocab_size(), "tokens")


if __name__ == "__main__":
    main()
