#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast a checkpoint comes from memory to the device.

    weights_bench.py BUNDLE LOG_FOLDER MODEL [FLAG_OF_SERVE...]

Writes a checkpoint of random weights of MODEL, a folder of the bundle's
tools/bench, into /dev/shm, whose files are what a page cache holds, serves it
and prints what each rank told of its weights and when the server was ready.
Fails if a request does then. The checkpoint is removed.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

from bench_cluster import Cluster

MEMORY = "/dev/shm"


def write_checkpoint(shape: str, folder: str) -> None:
    """Ends the program if there is no room."""
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run([sys.executable, f"{here}/bench/random_checkpoint.py", shape,
                    folder], check=True, stdout=subprocess.DEVNULL)


def told_weights(logs: str) -> list[str]:
    """What each rank said of its weights."""
    told = []
    for path in sorted(glob.glob(f"{logs}/worker*.log")):
        with open(path, encoding="utf-8", errors="replace") as file:
            told += re.findall(r"weights: .* GB/s", file.read())
    if not told:
        sys.exit("weights_bench: no worker told of its weights")
    return told


def main() -> None:
    positional = [a for a in sys.argv[1:] if not a.startswith("--")]
    if len(positional) != 3:
        sys.exit(__doc__)
    bundle, logs, model = positional
    flags = [a for a in sys.argv[1:] if a.startswith("--")]
    os.makedirs(logs, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="quire_weights_", dir=MEMORY)
    try:
        write_checkpoint(f"{bundle}/data/quire/tools/bench/{model}", folder)
        with Cluster(bundle, logs, folder, lengths="",
                     flags=["--load_format=safetensors", *flags]) as cluster:
            cluster.random(4, 32, 8, "--check_blocks")
        print("\n".join(told_weights(logs)))
        print(f"ready after {cluster.ready_seconds:.1f} s")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
