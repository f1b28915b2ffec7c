# SPDX-License-Identifier: Apache-2.0
"""A server from a bundle, loads upon it, and what its processes and GPUs do
meanwhile. For cluster_bench.py and weights_bench.py."""
import glob
import json
import os
import re
import statistics
import subprocess
import sys
import time
from typing import Any, Optional

READY_SECONDS = 300
END_SECONDS = 60
SAMPLER_SECONDS = 10  # to its first sample


class Cluster:
    """A server of made-up weights of the model whose config.json `folder` has,
    unless flags say otherwise.
    """

    def __init__(self, bundle: str, logs: str, folder: str, lengths: str,
                 flags: list[str]):
        self.logs = logs
        self._bundle = bundle
        self._lengths = lengths
        ready = f"{logs}/ready"
        if not any(flag.startswith("--device=") for flag in flags):
            flags = ["--device=cuda", *flags]
        if "--device=cpu" not in flags:
            flags = [f"--gemm_cache={logs}/gemm", *flags]
        for old in [ready, *glob.glob(f"{logs}/worker*.log*")]:
            if os.path.exists(old):
                os.remove(old)
        begin = time.monotonic()
        self._server = subprocess.Popen(
            [f"{bundle}/bin/quire", "serve", f"--model={folder}",
             "--load_format=dummy", "--skip_tokenizer_init",
             "--enable_prefix_caching=false", "--max_model_len=2048",
             "--port=0", "--control_port=0", "--metrics_port=0",
             f"--ready_file={ready}", f"--log_dir={logs}",
             f"--coordinator_binary={bundle}/bin/quire_coordinator",
             f"--worker_binary={bundle}/bin/quire_worker", *flags],
            env=dict(os.environ, QUIRE_MEASURE_IDLENESS="true"))
        while not os.path.exists(ready):
            if self._server.poll() is not None:
                sys.exit("cluster_bench: the server could not begin")
            if time.monotonic() - begin > READY_SECONDS:
                self._server.kill()
                sys.exit(f"cluster_bench: not ready in {READY_SECONDS} s")
            time.sleep(0.05)
        self.ready_seconds = time.monotonic() - begin
        with open(ready, encoding="utf-8") as file:
            self._addresses = dict(line.strip().split("=", 1) for line in file)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.terminate()
        try:
            self._server.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self._server.kill()
            sys.exit(f"cluster_bench: no end of the server in {END_SECONDS} s")

    def status(self) -> None:
        subprocess.run([f"{self._bundle}/bin/quire", "status",
                        f"--target={self._addresses['control']}"], check=False)

    def load(self, *flags: str) -> dict[str, Any]:
        """What loadgen reports; ends the program if its checks fail."""
        done = subprocess.run(
            [f"{self._bundle}/bin/loadgen", "--ignore_eos",
             "--disable_progress", "--num_channels=8",
             f"--target={self._addresses['public']}", "--save_result",
             f"--result_dir={self.logs}", "--result_filename=loadgen.json",
             *flags], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"cluster_bench: loadgen {' '.join(flags)}\n{done.stdout}")
        with open(f"{self.logs}/loadgen.json", encoding="utf-8") as file:
            return json.load(file)

    def random(self, batch: int, prompt: int, outputs: int,
               *flags: str) -> dict[str, Any]:
        return self.load("--dataset_name=random", f"--num_prompts={batch}",
                         f"--random_input_len={prompt}",
                         f"--random_output_len={outputs}", *flags)

    def seconds(self, batch: int, prompt: int, outputs: int) -> float:
        return self.random(batch, prompt, outputs)["duration"]

    def lengths(self, num_prompts: int) -> dict[str, Any]:
        """The first of the requests whose lengths a file names."""
        return self.load("--dataset_name=lengths",
                         f"--dataset_path={self._lengths}",
                         f"--num_prompts={num_prompts}", "--check_blocks")

    def verify(self, num_prompts: int) -> None:
        """Fails if a stream differs from a second one of its request: short
        ones beside fewer others, and long ones, in which little errors add up,
        beside as many."""
        self.random(num_prompts, 128, 64, "--max_concurrency=128", "--verify",
                    "--verify_concurrency=32", "--check_blocks")
        self.random(256, 8, 500, "--max_concurrency=128", "--verify",
                    "--verify_concurrency=128", "--temperature=0.8",
                    "--check_blocks")

    def cpu_seconds(self, program: str) -> float:
        """CPU time that the server's processes of this program have had."""
        ticks, found = 0, False
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path, encoding="utf-8") as file:
                    command, fields = file.read().rsplit(")", 1)
            except OSError:
                continue  # it has ended
            words = fields.split()
            # The kernel keeps 15 letters of a name.
            if (command.endswith("(" + program[:15])
                    and int(words[1]) == self._server.pid):
                ticks += int(words[11]) + int(words[12])
                found = True
        if not found:
            sys.exit(f"cluster_bench: the server has no {program}")
        return ticks / os.sysconf("SC_CLK_TCK")


def idleness_us(logs: str) -> tuple[Optional[float], Optional[float]]:
    """p50 and p99 of the worker that idled longest, as each told last. None
    where workers tell nothing, as on CPUs."""
    told = []
    for path in glob.glob(f"{logs}/worker*.log"):
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.findall(
                r"idle between steps: p50 ([\d.]+), p99 ([\d.]+) us",
                file.read())
        told += found[-1:]
    if not told:
        return None, None
    return (max(float(p50) for p50, _ in told),
            max(float(p99) for _, p99 in told))


class DeviceSamples:
    """Clock and power of the first GPUs while a block runs, twice a second;
    None where nobody knows."""

    def __init__(self, path: str, num_devices: int):
        self._path = path
        self._num_devices = num_devices
        self._sampler: Optional[subprocess.Popen[bytes]] = None
        self.median_mhz: Optional[float] = None
        self.median_watts: Optional[float] = None

    def __enter__(self) -> "DeviceSamples":
        try:
            with open(self._path, "w", encoding="utf-8") as file:
                # Line by line: what it holds back when it is ended is lost.
                self._sampler = subprocess.Popen(
                    ["stdbuf", "-oL", "nvidia-smi",
                     "--query-gpu=index,clocks.sm,power.draw",
                     "--format=csv,noheader,nounits", "--loop-ms=500"],
                    stdout=file, stderr=subprocess.DEVNULL)
        except OSError:
            return self
        begin = time.monotonic()
        while (self._sampler.poll() is None
               and os.path.getsize(self._path) == 0
               and time.monotonic() - begin < SAMPLER_SECONDS):
            time.sleep(0.01)
        return self

    def __exit__(self, *unused: object) -> None:
        if self._sampler is None:
            return
        self._sampler.terminate()
        self._sampler.wait()
        with open(self._path, encoding="utf-8") as file:
            rows = [re.findall(r"\d+(?:\.\d+)?", line) for line in file]
        rows = [row for row in rows
                if len(row) == 3 and int(row[0]) < self._num_devices]
        if rows:
            self.median_mhz = statistics.median(float(row[1]) for row in rows)
            self.median_watts = statistics.median(float(row[2]) for row in rows)
