# SPDX-License-Identifier: Apache-2.0
"""Runs tools/group_loss.py over programs in place of the bundle's: what they
are started with, and what their ends are taken for."""
import os
import subprocess
import sys
import tempfile
import unittest

# A group that is lost with any of its workers, which are connections. It is
# ready when it has all of them; once it was ready three times, the load, which
# is another connection, may end.
COORDINATOR = """#!/usr/bin/env python3
import os, select, socket, sys
open(os.environ["FLAGS"], "w").write("\\n".join(sys.argv[1:]))
control, public = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
name = "127.0.0.1:%d"
print("QUIRE_LISTENING", "public=" + name % public.getsockname()[1],
      "control=" + name % control.getsockname()[1], flush=True)
workers, loads, num_ready = [], [], 0
while True:
    for one in select.select([control, public, *workers], [], [])[0]:
        if one is public:
            loads.append(public.accept()[0])
        elif one is control:
            workers.append(control.accept()[0])
            if len(workers) == 2:
                print("QUIRE_READY", flush=True)
                num_ready += 1
        elif one in workers:
            for worker in workers:
                worker.close()
            workers = []
    if num_ready == 3:
        for load in loads:
            load.close()
        loads = []
"""
# They end when the other side does.
WORKER = """#!/usr/bin/env python3
import socket, sys
flags = dict(flag[2:].partition("=")[::2] for flag in sys.argv[1:])
host, port = flags["coordinator"].split(":")
socket.create_connection((host, int(port))).recv(1)
"""
LOADGEN = """#!/usr/bin/env python3
import os, socket, sys
flags = dict(flag[2:].partition("=")[::2] for flag in sys.argv[1:])
host, port = flags["target"].split(":")
socket.create_connection((host, int(port))).recv(1)
print("Successful requests:", flags["num_prompts"])
sys.exit(int(os.environ["LOAD_STATUS"]))
"""
NO_GPU = "#!/bin/sh\nexit 1\n"


class GroupLossTest(unittest.TestCase):

    def setUp(self):
        self._dir = tempfile.TemporaryDirectory()
        self._path = self._dir.name
        for name, text in (("bundle/bin/quire_coordinator", COORDINATOR),
                           ("bundle/bin/quire_worker", WORKER),
                           ("bundle/bin/loadgen", LOADGEN),
                           ("path/nvidia-smi", NO_GPU)):
            path = f"{self._path}/{name}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o755)

    def tearDown(self):
        self._dir.cleanup()

    def _run(self, *flags, load_status=0):
        """Exit status, what was printed, the coordinator's flags."""
        done = subprocess.run(
            [sys.executable, "tools/group_loss.py", f"{self._path}/bundle",
             f"{self._path}/logs", *flags],
            env=dict(os.environ, FLAGS=f"{self._path}/flags",
                     LOAD_STATUS=str(load_status),
                     PATH=f"{self._path}/path:{os.environ['PATH']}"),
            stdout=subprocess.PIPE, text=True, check=False)
        with open(f"{self._path}/flags", encoding="utf-8") as file:
            return done.returncode, done.stdout, file.read().splitlines()

    def test_the_demo_model_serves_and_each_rank_is_killed(self):
        code, said, flags = self._run("--device=cpu", "--requests=7")
        self.assertEqual(code, 0, said)
        tools = f"{self._path}/bundle/data/quire/tools"
        self.assertIn(f"--model={tools}/demo_model/model", flags)
        self.assertNotIn("--load_format=dummy", flags)
        for rank in (1, 0):
            self.assertRegex(said, f"rank {rank} killed: rank 0 ended after "
                             r"[\d.]+ s, rank 1 ended after [\d.]+ s, ready")
        self.assertIn("Successful requests: 7", said)

    def test_a_model_of_the_benches_serves_with_made_up_weights(self):
        code, said, flags = self._run("--device=cpu", "--model=llama_3_1_8b")
        self.assertEqual(code, 0, said)
        tools = f"{self._path}/bundle/data/quire/tools"
        self.assertIn(f"--model={tools}/bench/llama_3_1_8b", flags)
        self.assertIn("--load_format=dummy", flags)
        self.assertIn("--skip_tokenizer_init", flags)

    def test_streams_that_fail_fail_the_run(self):
        code, said, _ = self._run("--device=cpu", load_status=1)
        self.assertEqual(code, 1)
        self.assertIn("WRONG: streams failed or differ", said)


if __name__ == "__main__":
    unittest.main()
