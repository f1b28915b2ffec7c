#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Digests of what Hugging Face's tokenizers makes of 12,000 texts.

    venv/bin/python tests/golden/make_token_digests.py   # see make_tokenizers.py

Writes token_digests.json beside the tokenizers of tests/common/text/testdata:
for each of them one 64-bit digest of every 200 texts' tokens, of the texts
that these decode to, and of the texts of random ids. The test makes the same
texts from the same fragments and the same random numbers.
"""
import json
import pathlib

from tokenizers import Tokenizer

DATA = pathlib.Path(__file__).resolve().parent.parent / "common/text/testdata"
NUM_TEXTS = 12000
GROUP = 200
MASK = (1 << 64) - 1


class SplitMix:
    """Steele et al., OOPSLA'14."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % bound


class Digest:
    """FNV-1a."""

    def __init__(self):
        self.value = 0xCBF29CE484222325

    def add(self, data):
        for byte in data:
            self.value = ((self.value ^ byte) * 0x100000001B3) & MASK


def text(number, fragments, controls):
    rng = SplitMix(number)
    out = ""
    for _ in range(1 + rng.below(10)):
        kind = rng.below(20)
        fragment = fragments[rng.below(len(fragments))]
        if kind < 16:
            out += fragment
        elif kind < 18:
            out += controls[rng.below(len(controls))] if controls else fragment
        elif kind == 18:
            point = rng.below(0x30000)
            out += chr(0x3042 if 0xD800 <= point < 0xE000 else point)
        else:
            out += fragment * (1 + rng.below(5))
    return out


def ids_of(number, vocab_size):
    rng = SplitMix(number ^ MASK)
    return [rng.below(vocab_size) for _ in range(1 + rng.below(30))]


def main():
    fragments = json.loads((DATA / "fragments.json").read_text("utf-8"))
    digests = {}
    for path in sorted(DATA.glob("*.json")):
        name = path.name[:-len(".json")]
        if "." in name or name in ("fragments", "token_digests"):
            continue
        tok = Tokenizer.from_file(str(path))
        controls = [
            t["content"]
            for t in json.loads(path.read_text("utf-8"))["added_tokens"]]
        highest = max(tok.get_vocab().values())
        groups = {"encode": [], "decode": [], "random": []}
        for begin in range(0, NUM_TEXTS, GROUP):
            encode, decode, rand = Digest(), Digest(), Digest()
            for number in range(begin, begin + GROUP):
                ids = tok.encode(
                    text(number, fragments, controls),
                    add_special_tokens=number % 2 == 0).ids
                for i in ids:
                    encode.add(i.to_bytes(4, "little"))
                encode.add(b"\xff")
                skip = number % 3 == 0
                decode.add(tok.decode(ids, skip_special_tokens=skip).encode())
                decode.add(b"\xff")
                some = ids_of(number, highest + 1)
                rand.add(tok.decode(some, skip_special_tokens=skip).encode())
                rand.add(b"\xff")
            groups["encode"].append(f"{encode.value:016x}")
            groups["decode"].append(f"{decode.value:016x}")
            groups["random"].append(f"{rand.value:016x}")
        digests[name] = groups
        print(name)
    lines = [
        f' {json.dumps(n)}: {json.dumps(g, separators=(",", ":"))}'
        for n, g in digests.items()]
    (DATA / "token_digests.json").write_text(
        "{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
