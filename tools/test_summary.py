# SPDX-License-Identifier: Apache-2.0
"""Counts test cases in Bazel's build events and the test.xml files they name.

Usage: python3 test_summary.py --events=events.json [--skipped=names.txt]
           [--checks=lines.txt]

Lines of --checks begin with `ok` or `FAIL` and count as a case each.

Ends with `N passed, N failed`, after a line `N skipped` if any were. A target
that was not built, crashed or timed out counts as a failed case; one that is
not for this configuration is skipped by name. Exits with 1
if anything failed or nothing passed.
"""

import argparse
import collections
import json
import pathlib
import sys
import urllib.parse
import xml.etree.ElementTree

Counts = collections.namedtuple("Counts", "passed failed skipped")


def read_events(path):
    """Returns the build events of a file of JSON lines, [] if it is missing."""
    try:
        lines = pathlib.Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.strip()]


def xml_path(result):
    """Returns the path of a test result's test.xml, or None."""
    for output in result.get("testActionOutput", []):
        if output.get("name") == "test.xml":
            return urllib.parse.unquote(
                urllib.parse.urlparse(output["uri"]).path)
    return None


def count_cases(path):
    """Returns the Counts of one test.xml; zeros if it cannot be read."""
    if path is None:
        return Counts(0, 0, 0)
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return Counts(0, 0, 0)
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif (case.find("skipped") is not None or
              case.get("status") == "notrun" or
              case.get("result") in ("skipped", "suppressed")):
            skipped += 1
        else:
            passed += 1
    return Counts(passed, failed, skipped)


def count_result(result):
    """Returns the Counts of one run of a test target."""
    counts = count_cases(xml_path(result))
    if result.get("status") in ("PASSED", "FLAKY"):
        # A test may keep no book of its cases.
        return counts if any(counts) else Counts(1, 0, 0)
    # A crash or a timeout leaves no failed case in the file.
    return counts if counts.failed else counts._replace(failed=1)


def summarize(events):
    """Returns (Counts, failed targets, skipped targets) of a build's events."""
    results = {}  # (label, shard, run) -> result of the last attempt
    unbuilt = set()
    incompatible = set()
    for event in events:
        identity = event.get("id", {})
        if "testResult" in identity:
            key = identity["testResult"]
            results[(key["label"], key.get("shard"),
                     key.get("run"))] = event["testResult"]
        elif ("targetCompleted" in identity and
              event.get("aborted", {}).get("reason") == "SKIPPED"):
            incompatible.add(identity["targetCompleted"]["label"])
        elif "targetCompleted" in identity:
            if not event.get("completed", {}).get("success"):
                unbuilt.add(identity["targetCompleted"]["label"])
        elif "unconfiguredLabel" in identity and "aborted" in event:
            unbuilt.add(identity["unconfiguredLabel"]["label"])
    total = Counts(0, 0, 0)
    failed_targets = set()
    for (label, _, _), result in results.items():
        counts = count_result(result)
        total = Counts(*map(sum, zip(total, counts)))
        if counts.failed:
            failed_targets.add(label)
        unbuilt.discard(label)
    total = total._replace(failed=total.failed + len(unbuilt))
    unbuilt_targets = ["%s (not built)" % label for label in sorted(unbuilt)]
    return total, sorted(failed_targets) + unbuilt_targets, sorted(incompatible)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", required=True)
    parser.add_argument("--skipped", help="a file of names, one a line")
    parser.add_argument("--checks", help="a file of ok and FAIL lines")
    args = parser.parse_args()

    counts, failed_targets, incompatible = summarize(read_events(args.events))
    if args.checks:
        for line in pathlib.Path(args.checks).read_text().splitlines():
            if line.startswith("ok"):
                counts = counts._replace(passed=counts.passed + 1)
            else:
                counts = counts._replace(failed=counts.failed + 1)
                failed_targets.append(line)
    skipped_targets = []
    if args.skipped:
        skipped_targets = pathlib.Path(args.skipped).read_text().split()
    for name in skipped_targets:
        print("skipped (needs a GPU):", name)
    for name in incompatible:
        print("skipped (not for this configuration):", name)
    for name in failed_targets:
        print("failed:", name)
    num_skipped = counts.skipped + len(skipped_targets) + len(incompatible)
    if num_skipped:
        print("%d skipped" % num_skipped)
    print("%d passed, %d failed" % (counts.passed, counts.failed))
    return 1 if counts.failed or not counts.passed else 0


if __name__ == "__main__":
    sys.exit(main())
