#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The one table of a gpu_check.sh: what ran, how it ended and its figures.

    gpu_table.py BUNDLE LOG_FOLDER

LOG_FOLDER/book.tsv has a line `part name status seconds note` for each run, of
which the last of a name counts. Below each stand its figures: how many times
the limit is of ours, and how many times as fast we are as each peer. Exit 1 if
anything failed.
"""
import json
import os
import re
import subprocess
import sys
from typing import Any, NamedTuple, Optional

from cluster_bench import speed_up

WIDTH = 44
PARTS = ("tests", "memcheck", "racecheck", "kernels", "steps", "serve", "loss")

Result = dict[str, Any]  # what cluster_bench.py writes


class Run(NamedTuple):
    part: str
    name: str
    status: str  # ok, FAIL, late, left, or skip where GPUs are wanting
    seconds: str
    note: str


class Figure(NamedTuple):
    name: str
    value: str  # with its unit, or a line as it was printed
    of_limit: Optional[float]  # limit / ours of times, ours / limit of rates
    peers: dict[str, float]  # how many times as fast we are


def read_book(path: str) -> list[Run]:
    runs: dict[str, Run] = {}
    with open(path, encoding="utf-8") as book:
        for line in book:
            run = Run(*line.rstrip("\n").split("\t"))
            runs[run.name] = run
    return sorted(runs.values(), key=lambda run: PARTS.index(run.part))


def step_figures(text: str) -> list[Figure]:
    """Of engine_bench."""
    figures = []
    for line in text.splitlines():
        found = re.match(r"(\S.*?) +([\d.]+ ms), floor +[\d.]+, "
                         r"floor / measured ([\d.]+)", line)
        if found:
            figures.append(Figure(found[1], found[2], float(found[3]), {}))
        elif line.startswith("device "):
            figures.append(Figure("", line, None, {}))
    return figures


# Of kernel_bench.py: name, us, limit / ours, and a peer, its us and how often
# ours fit; each further peer has a line with the last three alone.
KERNEL = re.compile(r"(\S.*?) +(\d+\.\d\d) +(-|\d+\.\d+) +"
                    r"(\S+(?: \S+)*) +(-|\d+\.\d) +(-|\d+\.\d\d)")
FURTHER = re.compile(r" +(\S+(?: \S+)*) +(\d+\.\d) +(\d+\.\d\d)")


def kernel_figures(text: str) -> list[Figure]:
    figures: list[Figure] = []
    for line in text.splitlines():
        further = FURTHER.fullmatch(line)
        found = None if further else KERNEL.fullmatch(line)
        if further and figures:
            figures[-1].peers[further[1]] = float(further[3])
        elif found:
            limit = None if found[3] == "-" else float(found[3])
            peers = {} if found[6] == "-" else {found[4]: float(found[6])}
            figures.append(Figure(found[1], f"{found[2]} us", limit, peers))
        elif line.strip():
            figures.append(Figure("", line, None, {}))
    return figures


def cluster_figures(result: Result, one: Optional[Result]) -> list[Figure]:
    """Of cluster_bench.py, beside what one GPU did, if it was measured."""
    peers = dict(result["peers"])
    if one and one is not result:
        peers["one GPU"] = {
            name: value for name, value in one["figures"].items()
            if name.startswith(("decode", "prefill", "load, output"))}
    figures = []
    for name, value in result["figures"].items():
        if value is None:
            continue
        limit = result["limits"].get(name)
        figures.append(Figure(
            name, f"{value:.2f}",
            speed_up(name, value, limit) if limit else None,
            {who: speed_up(name, value, theirs[name])
             for who, theirs in peers.items() if theirs.get(name)}))
    return figures


def plain_figures(text: str) -> list[Figure]:
    """All lines but those of a library's log."""
    return [Figure("", line, None, {}) for line in text.splitlines()
            if line.strip() and not re.match(r"[IWEF]\d{4,8} ", line)]


def figures_of(run: Run, logs: str, results: dict[str, Result]
               ) -> list[Figure]:
    if run.name in results:
        result = results[run.name]
        one = results.get(f"{result['model']}.dp1.tp1")
        return cluster_figures(result, one)
    path = f"{logs}/{run.name}.log"
    if run.part == "tests" or not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if run.part == "steps":
        return step_figures(text)
    if run.name == "kernel_bench":
        return kernel_figures(text)
    return [] if run.part == "serve" and "bench" not in run.name else (
        plain_figures(text))


def read_results(logs: str) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for name in os.listdir(logs):
        path = f"{logs}/{name}/result.json"
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found[name] = json.load(file)
    return found


def show(figure: Figure) -> None:
    if not figure.name:
        print(f"    {figure.value}")
        return
    limit = f"{figure.of_limit:.3f}" if figure.of_limit is not None else "-"
    peers = ", ".join(f"{ratio:.2f}x {who}"
                      for who, ratio in figure.peers.items())
    print(f"    {figure.name:{WIDTH}} {figure.value:>14} {limit:>9}  {peers}"
          .rstrip())


def show_machine(bundle: str) -> None:
    with open(f"{bundle}/MANIFEST", encoding="utf-8") as manifest:
        print("bundle of", manifest.readline().strip())
    gpus = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem,"
         "temperature.gpu", "--format=csv,noheader"],
        stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()
    print(f"{len(gpus)} GPUs, the first {gpus[0] if gpus else 'unknown'}")


def main() -> int:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    bundle, logs = sys.argv[1:]
    show_machine(bundle)
    runs = read_book(f"{logs}/book.tsv")
    results = read_results(logs)
    print(f"{'':{WIDTH + 4}} {'ours':>14} {'of limit':>9}  ours is")
    part = ""
    for run in runs:
        if run.part != part:
            part = run.part
            print(part)
        print(f"  {run.name:{WIDTH + 2}} {run.status:>14} {run.seconds:>7} s"
              f"  {run.note}".rstrip())
        for figure in figures_of(run, logs, results):
            show(figure)
    counts = [run.status for run in runs]
    failed = [run.name for run in runs if run.status in ("FAIL", "late")]
    print(f"{counts.count('ok')} ok, {counts.count('skip')} skipped, "
          f"{len(failed)} failed{': ' if failed else ''}{', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
