#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every kernel of a bundle beside its limit and its peers, as one table.

    kernel_bench.py BUNDLE [LOG_FOLDER] [--quick] [--fa3=FOLDER] [--no-peers]

Runs the bundle's kernel benches and, in the same run, what PyTorch of this
machine takes for the same work (tools/bench/peers, which the bundle holds as
data): attention by cuDNN, linear layers, sampling by sorting. --fa3 names a
folder of Python packages with vLLM's FlashAttention-3, and a script fa3_bench.py
that writes its times there. Columns: our time, what part of the limit it
reaches (bytes read once at the copy's or read's rate, or the peer's products),
and how often it fits into the peer's time.
"""
import json
import os
import re
import subprocess
import sys

PEERS = {"sdpa": "sdpa_bench.py", "sampling": "sampling_bench.py",
         "linear": "linear_bench.py"}


class Table:
    def __init__(self):
        self.rows = []

    def add(self, kernel, us, floor=None, peer=None, peer_us=None):
        self.rows.append((kernel, us, floor, peer, peer_us))

    def show(self):
        print(f"{'kernel':46} {'us':>10} {'limit/ours':>10} {'peer':>10} "
              f"{'peer us':>10} {'peer/ours':>9}")
        for kernel, us, floor, peer, peer_us in self.rows:
            limit = f"{floor:.2f}" if floor else "-"
            theirs = f"{peer_us:.1f}" if peer_us else "-"
            ratio = f"{peer_us / us:.2f}" if peer_us else "-"
            print(f"{kernel:46} {us:10.2f} {limit:>10} {peer or '-':>10} "
                  f"{theirs:>10} {ratio:>9}")


def run(command, log, env=None):
    """Standard output of a command, also in a file; empty if it failed."""
    with open(log, "w", encoding="utf-8") as out:
        status = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT,
                                env=env, timeout=600, check=False).returncode
    with open(log, encoding="utf-8", errors="replace") as text:
        lines = text.read()
    if status != 0:
        print(f"{command[0]} failed, see {log}:", *lines.splitlines()[-3:],
              sep="\n  ")
        return ""
    return lines


def run_peers(bundle, logs):
    """Files of the peers' times, by the peer."""
    files = {}
    for name, script in PEERS.items():
        path = f"{bundle}/data/quire/tools/bench/peers/{script}"
        out = f"{logs}/{name}.txt"
        if os.path.exists(path) and run([sys.executable, path, out],
                                        f"{logs}/{name}.log") != "":
            pass
        if os.path.exists(out):
            files[name] = out
    return files


def run_fa3(folder, logs):
    """Microseconds by "decode 32/8 B=1 ctx=512 page=16"."""
    out = f"{logs}/fa3.json"
    env = dict(os.environ, PYTHONPATH=folder)
    # All kernels of its libraries at once would take minutes.
    env.pop("CUDA_MODULE_LOADING", None)
    run([sys.executable, f"{folder}/fa3_bench.py", out], f"{logs}/fa3.log", env)
    if not os.path.exists(out):
        return {}
    with open(out, encoding="utf-8") as text:
        return {name: times[0] for name, times in json.load(text).items()}


def words_of(text, count):
    """Lines of so many numbers."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == count and re.fullmatch(r"\d+", words[0]):
            yield words


def attention(text, fa3, sdpa, table):
    heads = ""
    cudnn = {}
    if sdpa:
        with open(sdpa, encoding="utf-8") as lines:
            for line in lines:
                batch, context, new, name, us = line.split()
                if name == "cudnn":
                    cudnn[batch, context, new] = float(us)
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "decode":
            heads = words[1]
        if len(words) == 7 and words[0].isdigit():
            peer = fa3.get(f"decode {heads} B={words[0]} ctx={words[1]} page=16")
            table.add(f"decode {heads}, {words[0]} x {words[1]}",
                      float(words[2]), float(words[4]),
                      "FA3" if peer else None, peer)
        if len(words) == 9 and words[0].isdigit():
            peer = cudnn.get(tuple(words[:3]))
            table.add(f"prefill 32/8, {words[0]} x {words[2]} of {words[1]}",
                      float(words[3]), None, "cuDNN" if peer else None, peer)


def operations(text, linear, table):
    torch = {}
    if linear:
        with open(linear, encoding="utf-8") as lines:
            for line in lines:
                name, rows, us = line.split()
                torch[name, rows] = float(us)
    for line in text.splitlines():
        found = re.match(r"(.+?) +([\d.]+) us +\d+ GB/s +([\d.]+) of copy", line)
        if found:
            table.add(found[1], float(found[2]), float(found[3]))
            continue
        words = line.split()
        if len(words) == 9 and words[1].isdigit() and words[0] != "product":
            tuned, skinny = float(words[2]), float(words[5])
            ours = min(tuned, skinny) if skinny > 0 else tuned
            name = f"product {words[0]}, {words[1]} rows"
            table.add(name, ours, None, "Lt guess", float(words[3]))
            if (words[0], words[1]) in torch:
                table.add(name, ours, None, "torch", torch[words[0], words[1]])


def sampling(text, table):
    for line in text.splitlines():
        found = re.match(r" *(\d+) rows, (\w+) +(.+?) +([\d.]+) us, floor +"
                         r"([\d.]+)(?:.*torch sort +([\d.]+) us)?", line)
        if not found:
            continue
        us = float(found[4])
        table.add(f"{found[3]}, {found[1]} rows, {found[2]}", us,
                  float(found[5]) / us, "torch" if found[6] else None,
                  float(found[6]) if found[6] else None)


def main():
    options = [arg for arg in sys.argv[1:] if arg.startswith("-")]
    folders = [arg for arg in sys.argv[1:] if not arg.startswith("-")]
    if not folders:
        sys.exit("usage: kernel_bench.py BUNDLE [LOG_FOLDER] [--quick] "
                 "[--fa3=FOLDER] [--no-peers]")
    bundle = folders[0]
    logs = folders[1] if len(folders) > 1 else f"{bundle}/logs"
    os.makedirs(logs, exist_ok=True)
    peers = {} if "--no-peers" in options else run_peers(bundle, logs)
    fa3 = {}
    for option in options:
        if option.startswith("--fa3="):
            fa3 = run_fa3(option[len("--fa3="):], logs)
    quick = ["--quick"] if "--quick" in options else []
    table = Table()

    def bench(name, arguments):
        program = f"{bundle}/bin/{name}"
        if not os.path.exists(program):
            return ""
        return run([program, *arguments], f"{logs}/{name}.log")

    attention(bench("attention_bench", ["decode", "prefill"]), fa3,
              peers.get("sdpa"), table)
    operations(bench("op_bench", quick), peers.get("linear"), table)
    sampling(bench("sampler_bench",
                   [peers["sampling"]] if "sampling" in peers else []), table)
    table.show()


if __name__ == "__main__":
    main()
