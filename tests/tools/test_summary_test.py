# SPDX-License-Identifier: Apache-2.0
"""Tests tools/test_summary.py against build events as Bazel writes them."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

SUMMARY = os.path.join("tools", "test_summary.py")

PASSING_XML = """<testsuites><testsuite>
<testcase name="a" status="run" result="completed"/>
<testcase name="b" status="run" result="completed"/>
<testcase name="c" status="notrun" result="suppressed"/>
</testsuite></testsuites>"""
FAILING_XML = """<testsuites><testsuite>
<testcase name="a" status="run" result="completed"/>
<testcase name="b" status="run" result="completed"><failure/></testcase>
</testsuite></testsuites>"""


class SummaryTest(unittest.TestCase):

    def setUp(self):
        self._dir = tempfile.TemporaryDirectory()
        self._events = []

    def tearDown(self):
        self._dir.cleanup()

    def _path(self, name, text):
        path = os.path.join(self._dir.name, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def _add_result(self, label, status, xml=None):
        outputs = []
        if xml is not None:
            name = "%d.xml" % len(self._events)
            outputs.append({
                "name": "test.xml",
                "uri": "file://" + self._path(name, xml)
            })
        self._events.append({
            "id": {"testResult": {"label": label, "run": 1, "shard": 1}},
            "testResult": {"status": status, "testActionOutput": outputs},
        })

    def _add_target(self, label, success):
        completed = {"success": True} if success else {}
        self._events.append({
            "id": {"targetCompleted": {"label": label}},
            "completed": completed,
        })

    def _run(self, skipped="", extra=()):
        events = self._path("events.json",
                            "\n".join(json.dumps(e) for e in self._events))
        process = subprocess.run(
            [sys.executable, SUMMARY, "--events=" + events,
             "--skipped=" + self._path("skipped", skipped), *extra],
            stdout=subprocess.PIPE, universal_newlines=True, check=False)
        return process.returncode, process.stdout.splitlines()

    def test_counts_cases(self):
        self._add_target("//a", success=True)
        self._add_result("//a", "PASSED", PASSING_XML)
        self._add_result("//b", "PASSED")  # keeps no book: one case
        code, lines = self._run()
        self.assertEqual(lines, ["1 skipped", "3 passed, 0 failed"])
        self.assertEqual(code, 0)

    def test_checks_count_as_cases(self):
        self._add_result("//a", "PASSED")
        checks = self._path("checks", "ok   a does not use b\nFAIL c: path\n")
        code, lines = self._run(extra=["--checks=" + checks])
        self.assertEqual(lines, ["failed: FAIL c: path", "2 passed, 1 failed"])
        self.assertEqual(code, 1)

    def test_failed_cases_fail(self):
        self._add_result("//a", "FAILED", FAILING_XML)
        code, lines = self._run()
        self.assertEqual(lines, ["failed: //a", "1 passed, 1 failed"])
        self.assertEqual(code, 1)

    def test_a_crash_or_timeout_is_a_failed_case(self):
        self._add_result("//a", "FAILED", PASSING_XML)
        self._add_result("//b", "TIMEOUT")
        code, lines = self._run()
        self.assertEqual(lines[-2:], ["1 skipped", "2 passed, 2 failed"])
        self.assertEqual(code, 1)

    def test_what_was_not_built_failed(self):
        self._add_result("//a", "PASSED")
        self._add_target("//b", success=False)
        self._events.append({
            "id": {"unconfiguredLabel": {"label": "//c"}},
            "aborted": {"reason": "LOADING_FAILURE"},
        })
        code, lines = self._run()
        self.assertEqual(lines, [
            "failed: //b (not built)", "failed: //c (not built)",
            "1 passed, 2 failed"
        ])
        self.assertEqual(code, 1)

    def test_what_is_not_for_this_configuration_is_named_as_skipped(self):
        self._add_result("//a", "PASSED")
        self._events.append({
            "id": {"targetCompleted": {"label": "//b"}},
            "aborted": {"reason": "SKIPPED"},
        })
        code, lines = self._run()
        self.assertEqual(lines, [
            "skipped (not for this configuration): //b", "1 skipped",
            "1 passed, 0 failed"
        ])
        self.assertEqual(code, 0)

    def test_gpu_tests_are_named_as_skipped(self):
        self._add_result("//a", "PASSED")
        code, lines = self._run(skipped="//gpu:one\n//gpu:two\n")
        self.assertEqual(lines, [
            "skipped (needs a GPU): //gpu:one",
            "skipped (needs a GPU): //gpu:two",
            "2 skipped",
            "1 passed, 0 failed",
        ])
        self.assertEqual(code, 0)

    def test_nothing_run_is_no_success(self):
        code, lines = self._run()
        self.assertEqual(lines, ["0 passed, 0 failed"])
        self.assertEqual(code, 1)


if __name__ == "__main__":
    unittest.main()
