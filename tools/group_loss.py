#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills ranks of a group while it serves, and looks what becomes of its streams.

    group_loss.py BUNDLE [LOG_FOLDER] [--device=cuda] [--ranks=2] [--requests=200]
        [--model=MODEL]

Starts the bundle's coordinator, which re-forms lost groups, and its workers, and
starts workers again when they end, as an orchestrator does. While the demo model
(the bundle's data) serves, or made-up weights of MODEL, a folder of the bundle's
tools/bench, each rank in turn is ended by SIGKILL. Exit 1 unless

  * every other rank has ended within 2 s of the killed one's end,
  * the group is ready again within 30 s,
  * no stream fails, and none differs from an undisturbed one,
  * every block is free or cached, and no process and no GPU memory is left.
"""
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

END_SECONDS = 2
READY_SECONDS = 30


def gpu_memory():
    """MiB in use of all GPUs; nothing where there are none."""
    try:
        out = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.used",
             "--format=csv,noheader,nounits"],
            capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [int(line) for line in out.split()]


def model_flags(bundle, model):
    """The coordinator's, of what it serves. `model` is None for the demo's."""
    tools = os.path.join(bundle, "data/quire/tools")
    if model is None:
        return [f"--model={tools}/demo_model/model"]
    return [f"--model={tools}/bench/{model}", "--load_format=dummy",
            "--skip_tokenizer_init", "--max_model_len=2048"]


class Cluster:
    def __init__(self, bundle, logs, device, num_ranks, model):
        self.bin, self.logs = os.path.join(bundle, "bin"), logs
        self.device, self.num_ranks = device, num_ranks
        self.workers, self.ends, self.ready = {}, [], []
        self.num_started, self.is_stopping = 0, False
        self.coordinator = self.start(
            "coordinator",
            ["quire_coordinator", *model_flags(bundle, model),
             f"--tensor_parallel_size={num_ranks}", "--max_num_seqs=32",
             "--on_group_lost=reform", "--port=0", "--control_port=0",
             "--metrics_port=0"], stdout=subprocess.PIPE, text=True)
        line = ""
        while not line.startswith("QUIRE_LISTENING"):
            line = self.coordinator.stdout.readline()
            if not line:
                sys.exit(f"the coordinator ended: see {logs}")
        self.public = re.search(r"public=(\S+)", line).group(1)
        self.control = re.search(r"control=(\S+)", line).group(1)
        threading.Thread(target=self.listen, daemon=True).start()
        for rank in range(num_ranks):
            self.start_worker(rank)
        threading.Thread(target=self.supervise, daemon=True).start()

    def start(self, name, argv, **kwargs):
        with open(os.path.join(self.logs, name + ".log"), "w") as log:
            kwargs.setdefault("stdout", log)
            return subprocess.Popen(
                [os.path.join(self.bin, argv[0]), *argv[1:]], stderr=log,
                **kwargs)

    def start_worker(self, rank):
        self.num_started += 1
        flags = ["--deterministic"] if self.device != "cpu" else []
        self.workers[rank] = self.start(
            f"worker_{rank}_{self.num_started}",
            ["quire_worker", f"--device={self.device}", f"--rank={rank}",
             f"--coordinator={self.control}", "--port=0", "--exit_with_parent",
             *flags])

    def listen(self):
        for line in self.coordinator.stdout:
            if line.startswith("QUIRE_READY"):
                self.ready.append(time.monotonic())

    def supervise(self):
        while not self.is_stopping:
            for rank, worker in list(self.workers.items()):
                if worker.poll() is not None and not self.is_stopping:
                    self.ends.append((time.monotonic(), rank))
                    self.start_worker(rank)
            time.sleep(0.005)

    def await_ready(self, count):
        end = time.monotonic() + READY_SECONDS
        while len(self.ready) < count and time.monotonic() < end:
            time.sleep(0.01)
        return len(self.ready) >= count

    def stop(self):
        """Whether everything ended by itself."""
        self.is_stopping = True
        self.coordinator.send_signal(signal.SIGTERM)
        is_clean = True
        for child in (self.coordinator, *self.workers.values()):
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                is_clean = False
        return is_clean


def kill(cluster, victim):
    """What is wrong with how a group outlives that rank."""
    num_ends, num_ready = len(cluster.ends), len(cluster.ready)
    killed = time.monotonic()
    cluster.workers[victim].send_signal(signal.SIGKILL)
    is_ready = cluster.await_ready(num_ready + 1)
    ends = {rank: at for at, rank in cluster.ends[num_ends:]}
    said = [f"rank {rank} ended after {at - killed:.2f} s"
            for rank, at in sorted(ends.items())]
    if is_ready:
        said.append(f"ready after {cluster.ready[-1] - killed:.2f} s")
    print(f"rank {victim} killed: {', '.join(said)}", flush=True)
    wrong = [] if is_ready else [f"not ready within {READY_SECONDS} s"]
    for rank in range(cluster.num_ranks):
        if rank not in ends:
            wrong.append(f"rank {rank} did not end")
        elif ends[rank] - ends.get(victim, killed) > END_SECONDS:
            wrong.append(f"rank {rank} ended late")
    return wrong


def main(argv):
    options = dict(arg[2:].split("=", 1) for arg in argv if arg.startswith("--"))
    folders = [arg for arg in argv if not arg.startswith("--")]
    if not folders or set(options) - {"device", "ranks", "requests", "model"}:
        sys.exit(__doc__)
    logs = folders[1] if len(folders) > 1 else tempfile.mkdtemp()
    os.makedirs(logs, exist_ok=True)
    before = gpu_memory()
    num_ranks = int(options.get("ranks", 2))
    cluster = Cluster(folders[0], logs, options.get("device", "cuda"), num_ranks,
                      options.get("model"))
    if not cluster.await_ready(1):
        sys.exit(f"the group was never ready: see {logs}")
    load = cluster.start(
        "loadgen",
        ["loadgen", f"--target={cluster.public}", "--dataset_name=random",
         f"--num_prompts={options.get('requests', 200)}",
         "--random_input_len=32", "--random_output_len=900", "--ignore_eos",
         "--disable_progress", "--verify", "--verify_concurrency=32",
         "--check_blocks"])
    wrong = []
    for victim in reversed(range(num_ranks)):
        time.sleep(1.5)
        if load.poll() is not None:
            wrong.append("the load ended too soon")
            break
        wrong += kill(cluster, victim)
    if load.wait() != 0:
        wrong.append("streams failed or differ")
    with open(os.path.join(logs, "loadgen.log")) as log:
        print("".join(line for line in log if re.match(
            r"Successful|Failed|Compared|Differing|Blocks after", line)), end="")
    if not cluster.stop():
        wrong.append("processes were left")
    time.sleep(1)
    after = gpu_memory()
    print(f"GPU memory in use, MiB: before {before}, after {after}")
    if any(b > a for a, b in zip(before, after)):
        wrong.append("GPU memory was left")
    for what in wrong:
        print("WRONG:", what)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
