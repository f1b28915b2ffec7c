#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Steps and load through a whole cluster of GPUs, beside its peers if they are
there.

    cluster_bench.py BUNDLE LOG_FOLDER MODEL [--tensor_parallel_size=N]
        [--data_parallel_size=N] [--num_prompts=2000] [--batches=1,32,128,256]
        [--prompts=128,512,1920] [--no-steps] [--verify] [--against=FILE]
        [--vllm=FOLDER] [--hf[=FOLDER]] [--hf_prompts=256]
        [--peer_seconds=900] [FLAG_OF_SERVE...]

Serves made-up weights of MODEL, a folder of the bundle's tools/bench, sends
requests by loadgen, prints a table and writes it to LOG_FOLDER/result.json:

  decode   (time of B prompts with 129 outputs - time with 65) / 64, where the
           prompts end 96 tokens before the context named: what a step of B
           takes with gRPC, scheduler and all, without the steps in which
           prompts and decodes mix; of either time the better of two
  prefill  time of a prompt with one output, the median of nine that follow
           each other: after a rest, a GPU takes milliseconds to speed up
  load     the lengths of ShareGPT requests, all at once; fails if a request
           fails or a block leaks. During it: the coordinator's share of a core
           and that of all workers, the device's idleness between steps (the
           last 1,024, as the slowest of the workers tells it), clock and power
           of the GPUs in the median

Limits are those of step_floor.py. --verify serves with --deterministic and, in
place of all that, sends 2,000 short requests and 256 long ones twice and fails
if a stream differs. --against names an earlier result.json, as of one GPU, and
shows how many times as fast this run is.

--vllm names a folder with vLLM's packages, which then does the same with the
same shapes in the same run (peers/vllm_bench.py). --hf lets continuous batching
of transformers, of this Python or of a folder, serve the first of the same
requests (peers/hf_bench.py); Quire serves as many once more. A peer that takes
longer than --peer_seconds is killed, with all that it started, and has failed;
our own figures are written before the peers begin. Exit status 1 if anything
failed.
"""
import argparse
import json
import os
import sys
from typing import Any, Optional

from bench_cluster import Cluster, DeviceSamples, idleness_us
from step_floor import Shape, decode_seconds, output_rate, prompt_seconds
import bench_peers

CONTEXT = 512
LOAD = "load, output tok/s"
PROGRAMS = ("quire_coordinator", "quire_worker")


class Report:
    """Figures by name, and what to hold them against."""

    def __init__(self, model: str, shape: Shape, ranks: int, groups: int):
        self.model, self.shape = model, shape
        self.ranks, self.groups = ranks, groups
        self.figures: dict[str, Optional[float]] = {}
        self.limits: dict[str, float] = {}
        self.peers: dict[str, dict[str, float]] = {}  # by who measured
        self.failures: dict[str, str] = {}  # of peers: why, by who

    def add(self, name: str, value: Optional[float],
            limit: Optional[float] = None) -> None:
        self.figures[name] = value
        if limit is not None:
            self.limits[name] = limit

    def save(self, path: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"model": self.model, "tensor_parallel_size": self.ranks,
                       "data_parallel_size": self.groups,
                       "figures": self.figures, "limits": self.limits,
                       "peers": self.peers, "failures": self.failures}, file,
                      indent=1)

    def show(self) -> None:
        print(f"{self.model}, TP {self.ranks}, {self.groups} groups")
        heads = "".join(f" {who:>12} {'ours is':>8}" for who in self.peers)
        print(f"  {'':32} {'ours':>10} {'limit':>10} {'of it':>6}{heads}")
        for name, value in self.figures.items():
            if value is None:
                print(f"  {name:32} {'-':>10}")
                continue
            line = f"  {name:32} {value:10.2f}"
            if name in self.limits:
                limit = self.limits[name]
                line += f" {limit:10.2f} {speed_up(name, value, limit):6.2f}"
            elif self.peers:
                line += " " * 18
            for figures in self.peers.values():
                theirs = figures.get(name)
                line += " " * 22 if not theirs else (
                    f" {theirs:12.2f} {speed_up(name, value, theirs):7.2f}x")
            print(line.rstrip())
        for who, reason in self.failures.items():
            print(f"  {who} failed: {reason}")


def speed_up(name: str, ours: float, theirs: float) -> float:
    """How many times as fast we are. Rates grow, times shrink."""
    if "tok/s" in name:
        return ours / theirs
    return theirs / ours if ours else 0


def measure_steps(cluster: Cluster, report: Report, batches: list[int],
                  prompts: list[int]) -> None:
    shape, ranks = report.shape, report.ranks
    cluster.seconds(8, 64, 16)  # what the first requests alone pay
    for batch in batches:
        long, short = (
            min(cluster.seconds(batch, CONTEXT - 96, outputs)
                for _ in range(2)) for outputs in (129, 65))
        # Groups share a batch evenly.
        limit = decode_seconds(shape, -(-batch // report.groups), CONTEXT,
                               ranks)
        report.add(f"decode {batch} x {CONTEXT}, ms", (long - short) / 64 * 1e3,
                   limit * 1e3)
    for prompt in prompts:
        median = cluster.random(9, prompt, 1,
                                "--max_concurrency=1")["median_e2el_ms"]
        report.add(f"prefill {prompt}, ms", median,
                   prompt_seconds(shape, prompt, ranks) * 1e3)


def measure_load(cluster: Cluster, report: Report, num_prompts: int) -> None:
    with DeviceSamples(f"{cluster.logs}/gpus.csv",
                       report.ranks * report.groups) as samples:
        before = [cluster.cpu_seconds(program) for program in PROGRAMS]
        loaded = cluster.lengths(num_prompts)
        after = [cluster.cpu_seconds(program) for program in PROGRAMS]
    prompt, output = (loaded[f"total_{kind}_tokens"] / loaded["completed"]
                      for kind in ("input", "output"))
    rate = loaded["output_throughput"]
    report.add(LOAD, rate, output_rate(report.shape, prompt, output,
                                       report.ranks, report.groups))
    report.add("load, failed", loaded["failed"])
    core, workers = ((end - begin) / loaded["duration"]
                     for begin, end in zip(before, after))
    report.add("coordinator, % of a core", 100 * core)
    report.add("coordinator, % for 1k tok/s", 100 * core / (rate / 1e3))
    report.add("workers, % of a core", 100 * workers)
    report.add("GPU clock, MHz", samples.median_mhz)
    report.add("GPU power, W", samples.median_watts)


def measure_peers(report: Report, options: argparse.Namespace,
                  folder: str, lengths: str) -> None:
    """Adds what the peers that were asked for measure, or why they do not."""
    if options.vllm:
        try:
            report.peers["vLLM"] = bench_peers.run_vllm(
                options.vllm, options.logs, folder, lengths, report.ranks,
                options.num_prompts, options)
        except bench_peers.PeerFailed as failure:
            report.failures["vLLM"] = f"{failure}: {options.logs}/vllm.log"
    if options.hf is not None:
        try:
            figures = bench_peers.run_hf(options.hf, options.logs, folder,
                                         lengths, options.hf_prompts,
                                         options.peer_seconds)
            name = f"load of {options.hf_prompts}, output tok/s"
            report.peers["transformers"] = {name: figures[LOAD]}
        except bench_peers.PeerFailed as failure:
            report.failures["transformers"] = (
                f"{failure}: {options.logs}/transformers.log")


def add_earlier(report: Report, earlier: dict[str, Any]) -> None:
    name = (f"TP {earlier['tensor_parallel_size']}, "
            f"{earlier['data_parallel_size']} gr.")
    report.peers[name] = {
        figure: value for figure, value in earlier["figures"].items()
        if value and figure.startswith(("decode", "prefill", "load, output"))}


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        usage=__doc__, allow_abbrev=False, add_help=False)
    parser.add_argument("bundle")
    parser.add_argument("logs")
    parser.add_argument("model")
    parser.add_argument("--tensor_parallel_size", type=int, default=1)
    parser.add_argument("--data_parallel_size", type=int, default=1)
    parser.add_argument("--num_prompts", type=int, default=2000)
    parser.add_argument("--batches", type=numbers, default=[1, 32, 128, 256])
    parser.add_argument("--prompts", type=numbers, default=[128, 512, 1920])
    parser.add_argument("--no-steps", action="store_true")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--against")
    parser.add_argument("--vllm")
    parser.add_argument("--hf", nargs="?", const="")
    parser.add_argument("--hf_prompts", type=int, default=256)
    parser.add_argument("--peer_seconds", type=float, default=900)
    options, options.serve = parser.parse_known_args(argv)
    if not options.peer_seconds > 0:
        parser.error(f"--peer_seconds={options.peer_seconds:g} is not above 0")
    if any(not flag.startswith("--") for flag in options.serve):
        parser.error(f"what is {options.serve}?")
    return options


def main() -> int:
    options = parse(sys.argv[1:])
    os.makedirs(options.logs, exist_ok=True)
    result = f"{options.logs}/result.json"
    earlier = None
    if options.against:
        with open(options.against, encoding="utf-8") as file:
            earlier = json.load(file)
    if os.path.exists(result):
        os.remove(result)
    data = f"{options.bundle}/data/quire/tools"
    folder = f"{data}/bench/{options.model}"
    lengths = f"{data}/workloads/sharegpt_paper.jsonl"
    ranks, groups = options.tensor_parallel_size, options.data_parallel_size
    report = Report(options.model, Shape(folder), ranks, groups)
    flags = [f"--tensor_parallel_size={ranks}",
             f"--data_parallel_size={groups}", *options.serve]
    if options.verify:
        flags.append("--deterministic")
    with Cluster(options.bundle, options.logs, folder, lengths,
                 flags) as cluster:
        cluster.status()
        report.add("ready, s", cluster.ready_seconds)
        if options.verify:
            cluster.verify(options.num_prompts)
            report.add(f"differing of {options.num_prompts}", 0)
        else:
            if not options.no_steps:
                measure_steps(cluster, report, options.batches,
                              options.prompts)
            if options.hf is not None:
                rate = cluster.lengths(options.hf_prompts)["output_throughput"]
                report.add(f"load of {options.hf_prompts}, output tok/s", rate)
            measure_load(cluster, report, options.num_prompts)
    if not options.verify:
        # Workers that have ended have told of their last steps.
        p50, p99 = idleness_us(options.logs)
        report.add("GPU idle between steps p50, us", p50)
        report.add("GPU idle between steps p99, us", p99)
    if earlier is not None:
        add_earlier(report, earlier)
    report.save(result)  # whatever becomes of the peers
    measure_peers(report, options, folder, lengths)
    report.save(result)
    report.show()
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
