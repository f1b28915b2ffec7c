# SPDX-License-Identifier: Apache-2.0
"""Tests the manifest of tools/gpu_bundle.sh where programs stand for Bazel and
git."""
import os
import subprocess
import tempfile
import unittest

BAZEL = """#!/bin/sh
case $* in
  *labels*) echo //a:helper ;;
  *gpu*) cat "$GPU_TESTS" ;;
  *bench*) echo //kernels:op_bench ;;
esac
"""
GIT = """#!/bin/sh
case $* in
  rev-parse*) echo 0123456789ab ;;
  diff*) exit 1 ;;
esac
"""


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o755)


class GpuBundleTest(unittest.TestCase):

    def setUp(self):
        self._dir = tempfile.TemporaryDirectory()
        write(f"{self._dir.name}/bazel", BAZEL)
        write(f"{self._dir.name}/git", GIT)

    def tearDown(self):
        self._dir.cleanup()

    def _list(self, tests):
        path = self._dir.name
        write(f"{path}/tests", tests)
        done = subprocess.run(
            ["tools/gpu_bundle.sh", "--list"], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
            env=dict(os.environ, GPU_TESTS=f"{path}/tests",
                     PATH=f"{path}:{os.environ['PATH']}"))
        return done.returncode, done.stdout.splitlines()

    def test_the_manifest_names_commit_tests_benches_and_programs(self):
        code, lines = self._list("//a:one_test\n//b/c:two_test\n")
        self.assertEqual(code, 0, lines)
        self.assertEqual(lines, [
            "commit 0123456789ab and changes", "test one_test",
            "test two_test", "bench op_bench", "bench engine_bench",
            "bench group_step_bench", "program helper",
            "program quire_coordinator", "program loadgen", "program quire",
            "program quire_worker"])

    def test_no_test_or_two_of_a_name_make_no_bundle(self):
        self.assertEqual(self._list(""), (
            2, ["gpu_bundle: Bazel knows no test of GPUs"]))
        code, lines = self._list("//a:one_test\n//b:one_test\n")
        self.assertEqual((code, lines), (
            2, ["gpu_bundle: two targets are named one_test"]))


if __name__ == "__main__":
    unittest.main()
