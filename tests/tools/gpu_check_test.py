# SPDX-License-Identifier: Apache-2.0
"""Runs tools/gpu_check.sh where programs stand for tests, benches, drivers and
the sanitizer."""
import os
import select
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

sys.path.insert(0, "tools")
import gpu_sanitize

PASSES = """#!/bin/sh
echo "run $0 $*" >>"$RUNS"
if [ "$1" = --gtest_list_tests ]; then
  printf 'SomeTest.\\n  Works\\n  Follows  # GetParam() = 3\\nSomeDeathTest.\\n'
  printf '  Ends\\n'
  exit
fi
echo '[==========] 1 test from 1 test suite ran.'
echo '[  PASSED  ] 1 test.'
"""
FAILS = "#!/bin/sh\necho '[  FAILED  ] 1 test, listed below:'\nexit 1\n"
SKIPS = """#!/bin/sh
echo '[  PASSED  ] 0 tests.'
echo '[  SKIPPED ] 2 tests, listed below:'
"""
ENGINE = """#!/bin/sh
echo "run $0 $*" >>"$RUNS"
echo '256x512    11.250 ms, floor   9.000, floor / measured 0.800'
echo 'device idle between steps: p50 18.1, p99 24.1 us of the last 40'
"""
NVIDIA_SMI = """#!/bin/sh
case $* in
  *index*) seq "$NUM_GPUS" ;;
  *) echo 'H200, 580, 1980 MHz, 3201 MHz, 40' ;;
esac
"""
SANITIZER = """#!/bin/sh
echo "run sanitizer of every ${QUIRE_TEST_EVERY:-1} $*" >>"$RUNS"
case $* in
  *memcheck*.Works*) echo '========= ERROR SUMMARY: 1 error'; exit 9 ;;
  *Follows*)
    echo '========= Target application terminated before first instrumented API call'
    echo '[  PASSED  ] 1 test.' ;;
  *) echo '========= RACECHECK SUMMARY: 0 hazards displayed' ;;
esac
"""
KERNELS = """
print("kernel  us")
print(f"{'decode 32/8, 1 x 512':58} {6:10.2f} {'0.930':>10} {'FA3':>10}"
      f" {11.9:10.1f} {1.98:9.2f}")
print(f"{'':80} {'cuDNN':>10} {24.0:10.1f} {4.0:9.2f}")
print(f"{'greedy':58} {9:10.2f} {'-':>10} {'-':>10} {'-':>10} {'-':>9}")
"""
# Two ranks are 1.5 times as fast as one.
CLUSTER = """
import json, os, sys
bundle, logs, model, *flags = sys.argv[1:]
open(os.environ["RUNS"], "a").write(f"run cluster_bench {logs} {flags}\\n")
os.makedirs(logs, exist_ok=True)
ranks = 1 + ("--tensor_parallel_size=2" in flags)
json.dump({"model": model, "figures": {
    "decode 1 x 512, ms": 4.5 / ranks * (1 + (ranks == 2) / 3),
    "GPU power, W": None},
    "limits": {"decode 1 x 512, ms": 1.5}, "peers": {
    "vLLM": {"decode 1 x 512, ms": 9.0}}}, open(f"{logs}/result.json", "w"))
"""
CLUSTER_MODULE = """
def speed_up(name, ours, theirs):
    return theirs / ours
if __name__ == "__main__":
""" + "".join(f"    {line}\n" for line in CLUSTER.splitlines())
PROGRAMS = ("quire", "quire_coordinator", "quire_worker", "loadgen")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o755)


class GpuCheckTest(unittest.TestCase):

    def setUp(self):
        self._dir = tempfile.TemporaryDirectory()
        self._path = path = self._dir.name
        for name in ("gpu_check.sh", "gpu_table.py", "gpu_sanitize.py"):
            write(f"{path}/tree/tools/{name}", read(f"tools/{name}"))
        write(f"{path}/tree/tools/kernel_bench.py", KERNELS)
        write(f"{path}/tree/tools/cluster_bench.py", CLUSTER_MODULE)
        write(f"{path}/tree/tools/group_loss.py", "print('rank 1 killed')\n")
        write(f"{path}/tree/tools/weights_bench.py",
              "print('weights: 8.000 GB in 1.57 s, 5.10 GB/s')\n")
        os.makedirs(f"{path}/tree/tests/golden")
        write(f"{path}/path/nvidia-smi", NVIDIA_SMI)
        write(f"{path}/path/compute-sanitizer", SANITIZER)
        manifest = "commit 0123456789ab\ntest some_test\ntest nccl_test\n"
        for test in ("some_test", "nccl_test"):
            write(f"{path}/bundle/bin/{test}", PASSES)
        for bench in ("engine_bench", "all_reduce_bench", "group_step_bench"):
            write(f"{path}/bundle/bin/{bench}", ENGINE)
            manifest += f"bench {bench}\n"
        for program in PROGRAMS:
            write(f"{path}/bundle/bin/{program}", PASSES)
            manifest += f"program {program}\n"
        write(f"{path}/bundle/MANIFEST", manifest)

    def tearDown(self):
        self._dir.cleanup()

    def _run(self, *flags, num_gpus=1):
        """Exit status, table, and what was run."""
        runs = f"{self._path}/runs"
        write(runs, "")
        done = subprocess.run(
            [f"{self._path}/tree/tools/gpu_check.sh", f"{self._path}/bundle",
             f"{self._path}/logs", *flags],
            env=dict(os.environ, RUNS=runs, NUM_GPUS=str(num_gpus),
                     PATH=f"{self._path}/path:{os.environ['PATH']}"),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False)
        table = done.stdout[done.stdout.find("\nbundle of") + 1:]
        return done.returncode, table, read(runs)

    def _row(self, table, name):
        rows = [line.split() for line in table.splitlines()
                if line.split()[:1] == [name]]
        self.assertEqual(len(rows), 1, table)
        return " ".join(rows[0][1:])

    def test_every_part_has_its_rows_and_figures_in_one_table(self):
        code, table, _ = self._run(num_gpus=2)
        self.assertEqual(code, 0, table)
        self.assertTrue(table.startswith("bundle of commit 0123456789ab\n"))
        self.assertRegex(self._row(table, "some_test"),
                         r"ok \d+ s PASSED 1 test")
        self.assertRegex(table, r"256x512 +11.250 ms +0.800\n")
        self.assertRegex(table, r"decode 32/8, 1 x 512 +6.00 us +0.930  "
                         r"1.98x FA3, 4.00x cuDNN\n")
        self.assertRegex(table, r"greedy +9.00 us +-\n")
        self.assertRegex(table, r"decode 1 x 512, ms +4.50 +0.333  2.00x vLLM"
                         "\n")
        self.assertRegex(table, r"decode 1 x 512, ms +3.00 +0.500  3.00x vLLM, "
                         "1.50x one GPU\n")
        self.assertIn("rank 1 killed", table)
        self.assertIn("5.10 GB/s", table)
        self.assertEqual(self._row(table, "llama_3_3_70b.dp1.tp8"),
                         "skip 0 s needs 8 GPUs, there are 2")
        self.assertTrue(table.endswith(" 0 failed\n"), table)

    def test_machines_of_many_gpus_begin_with_what_only_they_can(self):
        code, table, runs = self._run("--only=serve", num_gpus=8)
        self.assertEqual(code, 0, table)
        order = [os.path.basename(line.split()[2])
                 if "cluster_bench" in line else "coordinator"
                 for line in runs.splitlines()]
        self.assertEqual(order[:6], [
            "llama_3_1_8b.dp1.tp4", "llama_3_1_8b.dp1.tp8",
            "llama_3_3_70b.dp1.tp4", "llama_3_3_70b.dp1.tp8",
            "llama_3_1_8b.dp4.tp2", "coordinator"])

    def test_parts_add_to_one_table_and_run_alone(self):
        _, table, runs = self._run("--only=tests")
        self.assertNotIn("engine_bench", runs)
        _, table, runs = self._run("--only=steps")
        self.assertNotIn("some_test", runs)
        self._row(table, "some_test")
        self._row(table, "llama_3_1_8b.tp1")

    def test_what_has_no_time_is_left_for_another_call(self):
        code, table, runs = self._run("--only=tests", "--seconds=0")
        self.assertEqual((code, runs), (3, ""), table)
        self.assertIn("left for another call: some_test nccl_test", table)
        code, table, _ = self._run("--only=tests", "--seconds=300")
        self.assertEqual(code, 0, table)
        code, table, runs = self._run("--only=tests", "--seconds=300")
        self.assertEqual((code, runs), (0, ""), table)
        code, table, _ = self._run("--only=tests,serve", "--seconds=299")
        self.assertEqual(code, 3, table)
        self.assertIn("left for another call: llama_3_1_8b.dp1.tp1", table)

    def test_cases_that_have_no_time_are_left(self):
        code, table, _ = self._run("--only=racecheck", "--seconds=100")
        self.assertEqual(code, 3, table)
        self.assertRegex(table, r"\n  racecheck +left ")
        self.assertRegex(table, "some_test +2 left\n")
        self.assertIn("left for another call: racecheck\n", table)

    def test_what_the_manifest_names_must_be_there(self):
        os.remove(f"{self._path}/bundle/bin/some_test")
        code, table, _ = self._run("--only=tests")
        self.assertEqual(code, 1)
        self.assertEqual(self._row(table, "some_test"),
                         "FAIL 0 s the bundle lacks it")
        os.remove(f"{self._path}/bundle/MANIFEST")
        self.assertEqual(self._run("--only=tests")[0], 2)

    def test_logs_belong_to_one_bundle(self):
        self._run("--only=tests")
        write(f"{self._path}/bundle/MANIFEST", "commit f00\ntest some_test\n")
        code, _, runs = self._run("--only=tests")
        self.assertEqual((code, runs), (2, ""))

    def test_a_bundle_without_tests_fails(self):
        write(f"{self._path}/bundle/MANIFEST", "commit 0123456789ab\n")
        code, table, _ = self._run("--only=tests")
        self.assertEqual(code, 1)
        self.assertIn("the bundle has no test", table)

    def test_failures_fail(self):
        write(f"{self._path}/bundle/bin/some_test", FAILS)
        code, table, _ = self._run("--only=tests")
        self.assertEqual(code, 1)
        self.assertRegex(self._row(table, "some_test"), "FAIL .* FAILED 1 test")
        self.assertTrue(table.endswith("1 failed: some_test\n"), table)

    def test_a_test_that_skips_all_of_its_cases_is_told_as_skipped(self):
        write(f"{self._path}/bundle/bin/some_test", SKIPS)
        code, table, _ = self._run("--only=tests")
        self.assertEqual(code, 0)
        self.assertRegex(self._row(table, "some_test"),
                         "^skip .* PASSED 0 tests,2 skipped$")

    def test_cases_are_sanitized_by_themselves(self):
        code, table, runs = self._run("--only=memcheck")
        self.assertEqual(code, 1)
        self.assertIn("sanitizer of every 1 --tool memcheck", runs)
        self.assertRegex(table, "some_test +1 nothing, 1 FAILED\n")
        self.assertRegex(table, r"FAILED +SomeTest.Works\n")
        self.assertRegex(table, r"nothing +SomeTest.Follows\n")
        self.assertRegex(table, r"nccl_test +left out: ranks wait")
        self.assertRegex(table, r"\*DeathTest.\* +left out: ")
        self.assertNotIn("cuBLASLt", table)
        code, table, runs = self._run("--only=racecheck")
        self.assertRegex(table, "some_test +1 clean, 1 nothing\n")
        self.assertRegex(table, r"gemm_test +left out: cuBLASLt's kernels")
        self.assertIn("sanitizer of every 7 --tool racecheck", runs)
        # With a bound of time, cases that have ended are not run again.
        os.remove(f"{self._path}/logs/book.tsv")
        code, table, runs = self._run("--only=racecheck", "--seconds=300")
        self.assertEqual(code, 0, table)
        self.assertNotIn("sanitizer", runs)
        self.assertRegex(table, "some_test +1 clean, 1 nothing\n")


class SanitizeTest(unittest.TestCase):

    def test_cases_that_do_not_end_are_killed_with_their_children(self):
        with tempfile.TemporaryDirectory() as path:
            os.mkfifo(f"{path}/held")
            held = os.open(f"{path}/held", os.O_RDONLY | os.O_NONBLOCK)
            code = gpu_sanitize.run(
                ["sh", "-c", f"tail -f /dev/null >{path}/held & wait"], {},
                f"{path}/log", seconds=0.2)
            # It ends when nobody is left to write.
            ended, _, _ = select.select([held], [], [], 60)
            os.close(held)
        self.assertIsNone(code)
        self.assertTrue(ended)

    def test_late_cases_begin_again_with_more_time_alone(self):
        with tempfile.TemporaryDirectory() as path:
            def ended_before(seconds: float) -> dict[tuple[str, str], str]:
                with unittest.mock.patch.object(
                        gpu_sanitize, "find_sanitizer", lambda: "tool"):
                    return gpu_sanitize.Checker(path, path, "racecheck", 0,
                                                seconds).ended_before()
            self.assertEqual(ended_before(110), {})
            with open(f"{path}/racecheck/book.jsonl", "w",
                      encoding="utf-8") as book:
                book.write('["test", "slow", "late", 110.0]\n'
                           '["test", "fast", "clean", 110.0]\n')
            fast, slow = ("test", "fast"), ("test", "slow")
            self.assertEqual(ended_before(110), {slow: "late", fast: "clean"})
            self.assertEqual(ended_before(300), {fast: "clean"})

    def test_cases_that_end_without_a_summary_failed(self):
        told = "========= ERROR SUMMARY: 0 errors\n"
        for code, output, expected in (
                (0, told, "clean"), (9, told, "FAILED"), (0, "", "FAILED"),
                (0, told + "[  SKIPPED ] 1 test, listed below:", "skipped"),
                (1, "before first instrumented API call", "FAILED")):
            self.assertEqual(gpu_sanitize.verdict(code, output), expected)


if __name__ == "__main__":
    unittest.main()
