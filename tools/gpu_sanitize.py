#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GPU tests of a bundle under a tool of compute-sanitizer, case by case.

    gpu_sanitize.py BUNDLE LOG_FOLDER memcheck|racecheck [--seconds=N]
        [--case_seconds=110]

Each case is a process of its own, for --case_seconds at most, as many at once
as there are cores to spare, 14 at most. Only this project's kernels are
checked, under racecheck with every seventh of a test's sizes where it has many.
A line is printed for each test, and for each case that is not clean:

  nothing  passed without a call that the tool watches
  skipped  by itself, as for want of GPUs
  late     did not end in time: neither clean nor wrong
  FAILED   an error that the tool found, or the case itself

then what was left out, and why. LOG_FOLDER/TOOL has each case's output. With
--seconds, no case begins that might not end in time, and none that has ended
in an earlier run, or was late there with as much time. Exit 3 if cases are
left, else 1 if one failed.
"""
import argparse
import concurrent.futures
import fnmatch
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Optional

# An H200 has memory for these: 24 of the tests have run on one at once.
NUM_AT_ONCE = min(14, max(4, (os.cpu_count() or 1) - 2))
CASE_SECONDS = 110.0
RACECHECK_EVERY = "7"  # of what tests/kernels/cuda/size_sample.h lets through
# Names of tests and of cases, as patterns, that are left out, and why.
RANKS_WAIT = "ranks wait for each other, in time that the tool does not give"
COMPARES_TIMES = "it compares times"
REPEATS = "it repeats for long what other tests launch"
LEFT_OUT = {
    "nccl_test": RANKS_WAIT,
    "peer_test": RANKS_WAIT,
    "peer_memory_test": RANKS_WAIT,
    "peer_kill_test": RANKS_WAIT,
    "cuda_group_test": RANKS_WAIT,
    "attend_repeat_test": REPEATS,
    "cuda_repeat_test": REPEATS,
    "cuda_virtual_memory_test": "it maps pages and launches nothing",
    "cuda_lost_device_test": "it breaks the device",
    "cuda_lost_worker_test": "it breaks the device",
    "CudaBackendTest.ReportsMemory": "cases beside it take memory, too",
    "*DeathTest.*": "they end their process",
}
# Tests that run cuBLASLt's products, too: under racecheck those end in an
# illegal access, also where none of our kernels is checked.
OTHERS_PRODUCTS = "cuBLASLt's kernels do not run under racecheck"
LEFT_OUT_OF_RACECHECK = {
    "cuda_exactness_test": OTHERS_PRODUCTS,
    "cuda_executor_test": OTHERS_PRODUCTS,
    "cuda_fold_test": OTHERS_PRODUCTS,
    "gemm_test": OTHERS_PRODUCTS,
    "lt_gemm_test": OTHERS_PRODUCTS,
    "model_products_test": OTHERS_PRODUCTS,
    "product_choice_test": OTHERS_PRODUCTS,
    "OperationTimerTest.SumsWhat*": COMPARES_TIMES,
    "*CudaGoldenBf16Test.RoundsNoWorse*": OTHERS_PRODUCTS,
    "ProductTimerTest.MediansDecide*": COMPARES_TIMES,
    "ProductTimerTest.WhatIsHopeless*": COMPARES_TIMES,
    "*TileChainTest.*": "its products would take hours",
}


def left_out(tool: str) -> dict[str, str]:
    return LEFT_OUT | (LEFT_OUT_OF_RACECHECK if tool == "racecheck" else {})


def find_sanitizer() -> str:
    places = [shutil.which("compute-sanitizer"),
              "/usr/local/cuda/bin/compute-sanitizer",
              *glob.glob("/opt/nvidia/*/compute-sanitizer")]
    for place in places:
        if place and os.path.exists(place):
            return place
    sys.exit("gpu_sanitize: no compute-sanitizer")


def list_tests(bundle: str) -> list[str]:
    with open(f"{bundle}/MANIFEST", encoding="utf-8") as file:
        words = [line.split() for line in file]
    return sorted(name for kind, name, *_ in words if kind == "test"
                  and os.path.exists(f"{bundle}/bin/{name}"))


def list_cases(program: str) -> list[str]:
    """As --gtest_filter names them."""
    text = subprocess.run([program, "--gtest_list_tests"],
                          stdout=subprocess.PIPE, text=True,
                          check=True).stdout
    cases, suite = [], ""
    for line in text.splitlines():
        name = line.split("#")[0].rstrip()
        if name.startswith("  "):
            cases.append(suite + name.strip())
        elif name.endswith("."):
            suite = name
    return cases


def run(command: list[str], environment: dict[str, str], path: str,
        seconds: float) -> Optional[int]:
    """Exit status of a command, whose output a file takes; None if it had to be
    killed after so many seconds, with all processes that it began."""
    with open(path, "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log,
                                   stderr=subprocess.STDOUT,
                                   env=os.environ | environment,
                                   start_new_session=True)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def verdict(code: int, output: str) -> str:
    """Of a case that ended."""
    is_told = " SUMMARY: " in output
    if "before first instrumented API call" in output:
        return "nothing" if "[  PASSED  ] 1 test" in output else (
            "skipped" if "[  SKIPPED ] 1 test" in output else "FAILED")
    if code != 0 or not is_told:
        return "FAILED"
    return "skipped" if "[  SKIPPED ] 1 test" in output else "clean"


class Checker:
    def __init__(self, bundle: str, logs: str, tool: str, seconds: float,
                 case_seconds: float):
        self._bundle, self._tool = bundle, tool
        self._case_seconds = case_seconds
        self._logs = f"{logs}/{tool}"
        os.makedirs(self._logs, exist_ok=True)
        self._sanitizer = find_sanitizer()
        self._end = time.monotonic() + seconds
        self._book = f"{self._logs}/book.jsonl"

    def check(self, test: str, case: str) -> str:
        """How it ended, or "left" if there is no time for it."""
        if time.monotonic() + self._case_seconds > self._end:
            return "left"
        # Tests provoke failing calls on purpose.
        command = [self._sanitizer, "--tool", self._tool, "--report-api-errors",
                   "no", "--kernel-name", "kns=quire", "--print-limit", "5",
                   "--error-exitcode", "9", f"{self._bundle}/bin/{test}",
                   f"--gtest_filter={case}"]
        path = f"{self._logs}/{test}.{case.replace('/', '-')}.log"
        sample = {"QUIRE_TEST_EVERY": RACECHECK_EVERY}
        code = run(command, sample if self._tool == "racecheck" else {}, path,
                   self._case_seconds)
        with open(path, encoding="utf-8", errors="replace") as log:
            ended = "late" if code is None else verdict(code, log.read())
        with open(self._book, "a", encoding="utf-8") as book:
            book.write(json.dumps([test, case, ended, self._case_seconds]) +
                       "\n")
        return ended

    def _is_left_out(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern)
                   for pattern in left_out(self._tool))

    def ended_before(self) -> dict[tuple[str, str], str]:
        if not os.path.exists(self._book):
            return {}
        with open(self._book, encoding="utf-8") as book:
            return {(test, case): ended
                    for test, case, ended, seconds in map(json.loads, book)
                    if ended != "late" or seconds >= self._case_seconds}

    def forget(self) -> None:
        if os.path.exists(self._book):
            os.remove(self._book)

    def check_all(self, tests: list[str]) -> dict[tuple[str, str], str]:
        cases = [(test, case) for test in tests
                 if not self._is_left_out(test)
                 for case in list_cases(f"{self._bundle}/bin/{test}")
                 if not self._is_left_out(case)]
        ended = self.ended_before()
        begun = [each for each in cases if each not in ended]
        with concurrent.futures.ThreadPoolExecutor(NUM_AT_ONCE) as pool:
            ended.update(zip(begun, pool.map(lambda each: self.check(*each),
                                             begun)))
        return {each: ended[each] for each in cases}


def show(tool: str, ended: dict[tuple[str, str], str]) -> None:
    for test in dict.fromkeys(test for test, _ in ended):
        how = [each for (name, _), each in ended.items() if name == test]
        counts = ", ".join(f"{how.count(each)} {each}"
                           for each in ("clean", "nothing", "skipped", "late",
                                        "FAILED", "left") if each in how)
        print(f"{test:26} {counts}")
        for (name, case), each in ended.items():
            if name == test and each not in ("clean", "left"):
                print(f"  {each:8} {case}")
    for name, reason in left_out(tool).items():
        print(f"{name:26} left out: {reason}")


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("bundle")
    parser.add_argument("logs")
    parser.add_argument("tool", choices=("memcheck", "racecheck"))
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--case_seconds", type=float, default=CASE_SECONDS)
    options = parser.parse_args()
    seconds = options.seconds or float("inf")
    checker = Checker(options.bundle, options.logs, options.tool, seconds,
                      options.case_seconds)
    if options.seconds is None:
        checker.forget()
    ended = checker.check_all(list_tests(options.bundle))
    show(options.tool, ended)
    if "left" in ended.values():
        return 3
    return 1 if not ended or "FAILED" in ended.values() else 0


if __name__ == "__main__":
    sys.exit(main())
