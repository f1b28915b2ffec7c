# SPDX-License-Identifier: Apache-2.0
"""Runs what Quire is measured beside, after it, on the same machine. For
cluster_bench.py."""
import argparse
import json
import os
import subprocess
import sys

PEERS = os.path.join(os.path.dirname(os.path.realpath(__file__)),
                     "bench/peers")


def run(name: str, logs: str, site: str, script: str,
        *arguments: str) -> dict[str, float]:
    """Figures by name that a script of PEERS writes; none if it failed."""
    out = f"{logs}/{name}.json"
    environment = dict(os.environ, HF_HUB_OFFLINE="1",
                       VLLM_USE_FLASHINFER_SAMPLER="0",
                       VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="WARNING")
    if site:
        environment["PYTHONPATH"] = site
    # All kernels of its libraries at once would take minutes.
    environment.pop("CUDA_MODULE_LOADING", None)
    with open(f"{logs}/{name}.log", "w", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, f"{PEERS}/{script}", *arguments, out],
            env=environment, stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        print(f"cluster_bench: {name} failed: {logs}/{name}.log")
        return {}
    with open(out, encoding="utf-8") as file:
        return json.load(file)


def run_vllm(site: str, logs: str, folder: str, lengths: str, ranks: int,
             num_prompts: int, options: argparse.Namespace) -> dict[str, float]:
    batches, prompts = ([], []) if options.no_steps else (
        options.batches, options.prompts)
    return run("vllm", logs, site, "vllm_bench.py", folder, str(ranks), lengths,
               str(num_prompts), ",".join(map(str, batches)),
               ",".join(map(str, prompts)))


def run_hf(site: str, logs: str, folder: str, lengths: str,
           num_prompts: int) -> dict[str, float]:
    return run("transformers", logs, site, "hf_bench.py", folder, lengths,
               str(num_prompts))
