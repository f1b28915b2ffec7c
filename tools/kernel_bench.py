#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every kernel of a bundle beside its limit and its peers, as one table.

    kernel_bench.py BUNDLE [LOG_FOLDER] [--quick] [--fa3=FOLDER] [--no-peers]

Runs the bundle's kernel benches and, in the same run, what PyTorch of this
machine takes for the same work (tools/bench/peers, which the bundle holds as
data): attention by cuDNN, linear layers, sampling by sorting. --fa3 names a
folder of Python packages with vLLM's FlashAttention-3, and a script
fa3_bench.py that writes its times there. --quick takes fewer rows of products
and fewer turns. Columns: our time, what part of it the limit is (bytes read
once at the copy's or read's rate, or operations at the tensor cores'), a
peer's time, and how often ours fits into it. Then geometric means, with the
worst of each.

A bench or peer that fails, a kind of kernel without a line and a line that
cannot be read end it with status 1, named last. Peers that are not there are
told as not measured.
"""
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

# <name>   <us> us[, <other> <us> us]...[; <remark>]: bench_line.h prints it.
LINE = re.compile(r"(?P<name>\S.*?) +(?P<us>\d+\.\d+) us"
                  r"(?P<others>(?:, [^,;]+ \d+\.\d+ us)*)(?:; .*)?")
OTHER = re.compile(r", ([^,;]+) (\d+\.\d+) us")
# A library's log, in a bench's output.
LOG = re.compile(r"[IWEF]\d{4,8} ")

PEERS = ("sdpa_bench.py", "linear_bench.py", "sampling_bench.py")

# Times in microseconds, by the peer.
Times = dict[str, float]


class Bench(NamedTuple):
    program: str
    quick: tuple[str, ...]  # what --quick gives it
    kinds: tuple[str, ...]  # how lines begin: each has one line at least


BENCHES = (
    Bench("attention_bench", (),
          ("decode 32/8, ", "decode 40/40, ", "mixed, ", "skewed lengths, ",
           "blocks of ", "head dim ", "prefill 32/8, ")),
    Bench("product_bench", ("--quick",),
          ("layer of products, ", "product QKV, ", "product O, ",
           "product gate-up, ", "product down, ", "product head, ")),
    Bench("op_bench", ("--quick",),
          ("copy of 1 GiB", "add+RMSNorm", "SiLU mul", "rope + KV write",
           "copy of 256 blocks", "swap out", "swap in", "greedy", "sample")),
    Bench("sampler_bench", (), ("sampling by ",)),
    Bench("moe_bench", (), ("experts of ",)),
)


class Row(NamedTuple):
    name: str
    us: float
    limit: float | None
    peers: Times


class Mean(NamedTuple):
    label: str
    holds: Callable[[str], bool]  # of a row's name
    other: str  # a peer, or "limit"


def named(pattern: str) -> Callable[[str], bool]:
    return lambda name: re.fullmatch(pattern, name) is not None


def reads_much(heads: str, kv_heads: int) -> Callable[[str], bool]:
    """Decodes with 256 MiB of keys and values a layer, or more."""
    def holds(name: str) -> bool:
        found = re.fullmatch(rf"decode {heads}, (\d+) x (\d+)", name)
        return (found is not None and int(found[1]) * int(found[2]) *
                kv_heads * 128 * 2 * 2 >= 256 << 20)
    return holds


def list_means() -> list[Mean]:
    means = []
    for heads, kv_heads in (("32/8", 8), ("40/40", 40)):
        means += [
            Mean(f"decode {heads}, 256 MiB or more",
                 reads_much(heads, kv_heads), "limit"),
            Mean(f"decode {heads}, 1 to 128 of 512 to 32k",
                 named(rf"decode {heads}, (1|8|32|128) x "
                       r"(512|2048|8192|32768)"), "FA3"),
            Mean(f"decode {heads}, 32 or more of up to 1k",
                 named(rf"decode {heads}, (32|64|128|256) x (512|1024)"),
                 "FA3"),
        ]
    prompts = named(r"prefill 32/8, 1 x (1024|2048|4096|8192|16384) of \1")
    means += [Mean("prefill 32/8, one prompt of 1k to 16k", prompts, other)
              for other in ("limit", "cuDNN", "FA3")]
    means.append(Mean("mixed steps", named("mixed, .*"), "apart"))
    for label, rows in (("1 to 64", "1|8|32|64"),
                        ("128 and more", "128|256|512|768|1920")):
        products = named(rf"product \S+, ({rows}) rows")
        means += [Mean(f"products, {label} rows", products, other)
                  for other in ("limit", "Lt guess", "Lt tuned", "torch")]
        layers = named(rf"layer of products, ({rows}) rows")
        means += [Mean(f"layers of products, {label} rows", layers, other)
                  for other in ("limit", "Lt guess", "Lt tuned")]
    means += [Mean("sampling by top_k, top_p, both, 256 rows",
                   named("sampling by (top_k 50|top_p 0.9|"
                         "top_k 50 and top_p 0.9), 256 rows, peaked"), other)
              for other in ("limit", "torch")]
    return means


class Report:
    """Rows, what went wrong, and what was not there to be measured."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.problems: list[str] = []
        self.absent: list[str] = []

    def read_bench(self, bench: Bench, text: str) -> None:
        """Adds a bench's lines."""
        names = []
        for line in text.splitlines():
            found = LINE.fullmatch(line.rstrip())
            if found is None:
                if re.search(r"\d us\b", line) and not LOG.match(line):
                    self.problems.append(
                        f"{bench.program}: no such line is known: {line}")
                continue
            others = {name: float(us)
                      for name, us in OTHER.findall(found["others"])}
            limit = others.pop("limit", None)
            names.append(found["name"])
            self.rows.append(Row(names[-1], float(found["us"]), limit, others))
        self.problems += [f"{bench.program}: no line of '{kind.strip(' ,')}'"
                          for kind in bench.kinds
                          if not any(n.startswith(kind) for n in names)]

    def join(self, source: str, times: dict[str, Times]) -> None:
        """Sets peers' times, by the names of rows, beside ours."""
        joined = False
        for row in self.rows:
            row.peers.update(times.get(row.name, {}))
            joined |= row.name in times
        if not joined:
            self.problems.append(f"{source}: no time of a kernel of ours")

    def show(self) -> None:
        print(f"{'kernel':58} {'us':>10} {'limit/ours':>10} {'peer':>10} "
              f"{'peer us':>10} {'peer/ours':>9}")
        for row in self.rows:
            limit = f"{row.limit / row.us:.3f}" if row.limit else "-"
            ours = f"{row.name:58} {row.us:10.2f} {limit:>10}"
            for peer, us in row.peers.items():
                print(f"{ours} {peer:>10} {us:10.1f} {us / row.us:9.2f}")
                ours = " " * len(ours)
            if not row.peers:
                print(f"{ours} {'-':>10} {'-':>10} {'-':>9}")
        self.show_means()
        for text in self.absent:
            print(f"not measured: {text}")
        for text in self.problems:
            print(f"FAILED: {text}")

    def show_means(self) -> None:
        print(f"\n{'geometric mean of':44} {'':>14} {'cells':>10} "
              f"{'mean':>10} {'worst':>10}")
        for mean in list_means():
            others = [(row, self.other_of(row, mean.other))
                      for row in self.rows if mean.holds(row.name)]
            ratios = [(us / row.us, row.name) for row, us in others if us]
            label = f"{mean.label:44} {mean.other + '/ours':>14}"
            if not ratios:
                print(f"{label} {0:>10} {'-':>10} {'-':>10}")
                if self.is_measured_beside(mean):
                    self.problems.append(
                        f"{mean.label}: none beside {mean.other}")
                continue
            value = math.exp(sum(math.log(r) for r, _ in ratios) / len(ratios))
            worst, where = min(ratios)
            print(f"{label} {len(ratios):10} {value:10.3f} {worst:10.3f} "
                  f"{where}")

    def is_measured_beside(self, mean: Mean) -> bool:
        """Whether kernels alike have what the mean's rows are beside."""
        kinds = {row.name.split()[0] for row in self.rows
                 if mean.holds(row.name)}
        return any(self.other_of(row, mean.other) for row in self.rows
                   if row.name.split()[0] in kinds)

    @staticmethod
    def other_of(row: Row, other: str) -> float:
        return (row.limit if other == "limit" else row.peers.get(other)) or 0.0


def run(command: list[str], log: str, env: dict[str, str] | None = None
        ) -> tuple[str, str]:
    """Output of a command, also in a file, and why it failed, if it did."""
    with open(log, "w", encoding="utf-8") as out:
        try:
            status = subprocess.run(command, stdout=out,
                                    stderr=subprocess.STDOUT, env=env,
                                    timeout=600, check=False).returncode
        except subprocess.TimeoutExpired:
            status = -1
    with open(log, encoding="utf-8", errors="replace") as text:
        lines = text.read()
    if status == 0:
        return lines, ""
    reason = "took 600 s" if status == -1 else f"status {status}"
    return lines, "\n  ".join([f"{reason}, see {log}:",
                               *lines.splitlines()[-3:]])


def forget(path: str) -> None:
    """Removes what an earlier run left."""
    if os.path.exists(path):
        os.remove(path)


def read_peer(path: str) -> dict[str, Times]:
    """What a peer's script wrote: lines of name, peer, microseconds."""
    times: dict[str, Times] = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            name, peer, us = line.rstrip("\n").split("\t")
            times.setdefault(name, {})[peer] = float(us)
    return times


def fa3_name(key: str) -> str:
    """Our name of what fa3_bench.py calls "decode 32/8 B=1 ctx=512 page=16",
    "prefill 32/8 S=1024 page=16" or "chunk 512 over 8704 ctx"."""
    if found := re.fullmatch(r"decode (\S+) B=(\d+) ctx=(\d+) page=16", key):
        return f"decode {found[1]}, {found[2]} x {found[3]}"
    if found := re.fullmatch(r"prefill (\S+) S=(\d+) page=16", key):
        return f"prefill {found[1]}, 1 x {found[2]} of {found[2]}"
    if found := re.fullmatch(r"chunk (\d+) over (\d+) ctx", key):
        return f"prefill 32/8, 1 x {found[1]} of {found[2]}"
    return ""


def run_peers(bundle: str, logs: str, report: Report
              ) -> dict[str, dict[str, Times]]:
    """Times by the script; a machine without PyTorch has none."""
    times = {}
    for script in PEERS:
        path = f"{bundle}/data/quire/tools/bench/peers/{script}"
        if not os.path.exists(path):
            report.absent.append(f"{script}, which the bundle lacks")
            continue
        out = f"{logs}/{script}.txt"
        forget(out)
        _, error = run([sys.executable, path, out], f"{logs}/{script}.log")
        if "No module named 'torch'" in error:
            report.absent.append(f"{script}, for want of PyTorch")
        elif error:
            report.problems.append(f"{script}: {error}")
        if os.path.exists(out):
            times[script] = read_peer(out)
    return times


def run_fa3(folder: str, logs: str, report: Report) -> dict[str, Times]:
    out = f"{logs}/fa3.json"
    forget(out)
    env = dict(os.environ, PYTHONPATH=folder)
    # All kernels of its libraries at once would take minutes.
    env.pop("CUDA_MODULE_LOADING", None)
    _, error = run([sys.executable, f"{folder}/fa3_bench.py", out],
                   f"{logs}/fa3.log", env)
    if error:
        report.problems.append(f"fa3_bench.py: {error}")
    if not os.path.exists(out):
        return {}
    with open(out, encoding="utf-8") as text:
        times = {fa3_name(key): {"FA3": us[0]}
                 for key, us in json.load(text).items()}
    for kind in ("decode 32/8, ", "decode 40/40, ", "prefill 32/8, "):
        if not any(name.startswith(kind) for name in times):
            report.problems.append(f"fa3_bench.py: no '{kind.strip(' ,')}'")
    return times


def main() -> int:
    usage = ("usage: kernel_bench.py BUNDLE [LOG_FOLDER] [--quick] "
             "[--fa3=FOLDER] [--no-peers]")
    folders, is_quick, has_peers, fa3 = [], False, True, ""
    for arg in sys.argv[1:]:
        if arg == "--quick":
            is_quick = True
        elif arg == "--no-peers":
            has_peers = False
        elif arg.startswith("--fa3="):
            fa3 = arg[len("--fa3="):]
        elif arg.startswith("-"):
            sys.exit(usage)
        else:
            folders.append(arg)
    if len(folders) not in (1, 2):
        sys.exit(usage)
    bundle, logs = folders[0], folders[-1]
    if len(folders) == 1:
        logs = f"{bundle}/logs"
    os.makedirs(logs, exist_ok=True)
    report = Report()
    for bench in BENCHES:
        program = f"{bundle}/bin/{bench.program}"
        if not os.path.exists(program):
            report.absent.append(f"{bench.program}, which the bundle lacks")
            continue
        text, error = run([program, *(bench.quick if is_quick else ())],
                          f"{logs}/{bench.program}.log")
        report.read_bench(bench, text)
        if error:
            report.problems.append(f"{bench.program}: {error}")
    if has_peers:
        for script, times in run_peers(bundle, logs, report).items():
            report.join(script, times)
    if fa3:
        report.join("fa3_bench.py", run_fa3(fa3, logs, report))
    if not report.rows:
        report.problems.append("no bench printed anything")
    report.show()
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
