#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Steps and load through a whole cluster of GPUs, beside vLLM if it is there.

    cluster_bench.py BUNDLE LOG_FOLDER MODEL [--tensor_parallel_size=N]
        [--data_parallel_size=N] [--num_prompts=N] [--no-steps] [--vllm=FOLDER]
        [FLAG_OF_SERVE...]

Serves made-up weights of MODEL, a folder of the bundle's tools/bench, sends
requests by loadgen and prints a table:

  decode   (time of B prompts with 129 outputs - time with 65) / 64, where the
           prompts end 96 tokens before the context named: what a step of B
           takes with gRPC, scheduler and all, without the steps in which
           prompts and decodes mix; of either time the better of two
  prefill  time of a prompt with one output, the median of nine that follow
           each other: after a rest, a GPU takes milliseconds to speed up
  load     the lengths of ShareGPT requests, all at once; fails if a request
           fails or a block leaks

--vllm names a folder with vLLM's packages, which then does the same with the
same shapes in the same run (peers/vllm_bench.py). Exit status 1 if anything
failed.
"""
import json
import os
import subprocess
import sys
import time

BATCHES = (1, 32, 128, 256)
CONTEXT = 512
PROMPTS = (128, 512, 1920)
READY_SECONDS = 300


class Cluster:
    """A server from a bundle, and loads upon it."""

    def __init__(self, bundle, logs, model, flags):
        self._bundle = bundle
        self._logs = logs
        self._data = f"{bundle}/data/quire/tools"
        ready = f"{logs}/ready"
        if not any(flag.startswith("--device=") for flag in flags):
            flags = ["--device=cuda", *flags]
        if "--device=cpu" not in flags:
            flags = [f"--gemm_cache={logs}/gemm", *flags]
        if os.path.exists(ready):
            os.remove(ready)
        self._server = subprocess.Popen(
            [f"{bundle}/bin/quire", "serve",
             f"--model={self._data}/bench/{model}", "--load_format=dummy",
             "--skip_tokenizer_init", "--enable_prefix_caching=false",
             "--max_model_len=2048", "--port=0", "--control_port=0",
             "--metrics_port=0", f"--ready_file={ready}", f"--log_dir={logs}",
             f"--coordinator_binary={bundle}/bin/quire_coordinator",
             f"--worker_binary={bundle}/bin/quire_worker"] + flags)
        begin = time.monotonic()
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

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._server.terminate()
        self._server.wait(timeout=60)

    def status(self):
        subprocess.run([f"{self._bundle}/bin/quire", "status",
                        f"--target={self._addresses['control']}"], check=False)

    def load(self, *flags):
        """What loadgen reports; ends the program if its checks fail."""
        result = f"{self._logs}/loadgen.json"
        done = subprocess.run(
            [f"{self._bundle}/bin/loadgen", "--ignore_eos",
             "--disable_progress", "--num_channels=8",
             f"--target={self._addresses['public']}", "--save_result",
             f"--result_dir={self._logs}", "--result_filename=loadgen.json",
             *flags], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"cluster_bench: loadgen {' '.join(flags)}\n{done.stdout}")
        with open(result, encoding="utf-8") as file:
            return json.load(file)

    def random(self, batch, prompt, outputs, *flags):
        return self.load("--dataset_name=random", f"--num_prompts={batch}",
                         f"--random_input_len={prompt}",
                         f"--random_output_len={outputs}", *flags)

    def seconds(self, batch, prompt, outputs):
        return self.random(batch, prompt, outputs)["duration"]

    def steps(self):
        """Milliseconds by name."""
        self.seconds(8, 64, 16)  # what the first requests alone pay
        found = {}
        for batch in BATCHES:
            long, short = (
                min(self.seconds(batch, CONTEXT - 96, outputs)
                    for _ in range(2)) for outputs in (129, 65))
            found[f"decode {batch} x {CONTEXT}"] = (long - short) / 64 * 1e3
        for prompt in PROMPTS:
            found[f"prefill {prompt}"] = self.random(
                9, prompt, 1, "--max_concurrency=1")["median_e2el_ms"]
        return found

    def throughput(self, num_prompts):
        """Output tokens a second."""
        path = f"{self._data}/workloads/sharegpt_paper.jsonl"
        return self.load("--dataset_name=lengths", f"--dataset_path={path}",
                         f"--num_prompts={num_prompts}",
                         "--check_blocks")["output_throughput"]


def run_vllm(bundle, logs, model, site, ranks, num_prompts, has_steps):
    """The same by vLLM: figures by name."""
    out = f"{logs}/vllm.json"
    data = f"{bundle}/data/quire/tools"
    environment = dict(os.environ, PYTHONPATH=site, HF_HUB_OFFLINE="1",
                       VLLM_USE_FLASHINFER_SAMPLER="0",
                       VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="WARNING")
    # All kernels of its libraries at once would take minutes.
    environment.pop("CUDA_MODULE_LOADING", None)
    with open(f"{logs}/vllm.log", "w", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, f"{data}/bench/peers/vllm_bench.py",
             f"{data}/bench/{model}", str(ranks),
             f"{data}/workloads/sharegpt_paper.jsonl", str(num_prompts),
             "steps" if has_steps else "load", out],
            env=environment, stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        print(f"cluster_bench: vLLM failed: {logs}/vllm.log")
        return {}
    with open(out, encoding="utf-8") as file:
        return json.load(file)


def value_of(argument):
    return argument.split("=", 1)[1]


def main():
    positional = [a for a in sys.argv[1:] if not a.startswith("--")]
    if len(positional) != 3:
        sys.exit(__doc__)
    bundle, logs, model = positional
    num_prompts, site, ranks, has_steps, flags = 2000, None, 1, True, []
    for argument in sys.argv[1:]:
        if argument.startswith("--num_prompts="):
            num_prompts = int(value_of(argument))
        elif argument.startswith("--vllm="):
            site = value_of(argument)
        elif argument == "--no-steps":
            has_steps = False
        elif argument.startswith("--"):
            flags.append(argument)
            if argument.startswith("--tensor_parallel_size="):
                ranks = int(value_of(argument))
    os.makedirs(logs, exist_ok=True)
    with Cluster(bundle, logs, model, flags) as cluster:
        cluster.status()
        found = {"ready, s": cluster.ready_seconds}
        if has_steps:
            found.update(cluster.steps())
        found["load, output tok/s"] = cluster.throughput(num_prompts)
    peer = {}
    if site is not None:
        peer = run_vllm(bundle, logs, model, site, ranks, num_prompts,
                        has_steps)
    print(f"{model}: 0 failed of {num_prompts}, no leaked block")
    for name, value in found.items():
        line = f"  {name:24} {value:10.2f}"
        if name in peer:
            gain = peer[name] / value if "tok/s" not in name else (
                value / peer[name])
            line += f"   vLLM {peer[name]:10.2f}   {gain:.2f}x"
        print(line)
    if site is not None and not peer:
        sys.exit(1)


main()
