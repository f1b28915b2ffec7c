# SPDX-License-Identifier: Apache-2.0
"""Runs what Quire is measured beside, after it, on the same machine. For
cluster_bench.py."""
import argparse
import json
import os
import signal
import subprocess
import sys
from typing import Any

PEERS = os.path.join(os.path.dirname(os.path.realpath(__file__)),
                     "bench/peers")


class PeerFailed(Exception):
    """A peer has no figures; why."""


def end(peer: subprocess.Popen[bytes]) -> None:
    """Kills it with all that it started: what is left would hold a GPU."""
    try:
        os.killpg(peer.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    peer.wait()


def wait(peer: subprocess.Popen[bytes], seconds: float) -> None:
    """Raises PeerFailed unless it ends well in time. It leaves nothing behind,
    even if this process is told to end meanwhile."""
    def leave(*unused: Any) -> None:
        sys.exit(128 + signal.SIGTERM)
    before = signal.signal(signal.SIGTERM, leave)
    try:
        status = peer.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"took longer than --peer_seconds={seconds:g}"
                         ) from None
    finally:
        end(peer)
        signal.signal(signal.SIGTERM, before)
    if status != 0:
        raise PeerFailed(f"ended with status {status}")


def run(name: str, logs: str, site: str, seconds: float, script: str,
        *arguments: str) -> dict[str, float]:
    """Figures by name that a script of PEERS writes within `seconds`, or
    PeerFailed."""
    out = f"{logs}/{name}.json"
    environment = dict(os.environ, HF_HUB_OFFLINE="1",
                       VLLM_USE_FLASHINFER_SAMPLER="0",
                       VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="WARNING")
    if site:
        environment["PYTHONPATH"] = site
    # All kernels of its libraries at once would take minutes.
    environment.pop("CUDA_MODULE_LOADING", None)
    with open(f"{logs}/{name}.log", "w", encoding="utf-8") as log:
        peer = subprocess.Popen(
            [sys.executable, f"{PEERS}/{script}", *arguments, out],
            env=environment, stdout=log, stderr=log, start_new_session=True)
        wait(peer, seconds)
    with open(out, encoding="utf-8") as file:
        return json.load(file)


def run_vllm(site: str, logs: str, folder: str, lengths: str, ranks: int,
             num_prompts: int, options: argparse.Namespace) -> dict[str, float]:
    batches, prompts = ([], []) if options.no_steps else (
        options.batches, options.prompts)
    return run("vllm", logs, site, options.peer_seconds, "vllm_bench.py",
               folder, str(ranks), lengths, str(num_prompts),
               ",".join(map(str, batches)), ",".join(map(str, prompts)))


def run_hf(site: str, logs: str, folder: str, lengths: str,
           num_prompts: int, seconds: float) -> dict[str, float]:
    return run("transformers", logs, site, seconds, "hf_bench.py", folder,
               lengths, str(num_prompts))
