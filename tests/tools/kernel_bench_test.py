# SPDX-License-Identifier: Apache-2.0
"""Tests tools/kernel_bench.py on the lines that benches themselves print."""

import importlib.util
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import tempfile
import types
import unittest
import unittest.mock

SCRIPT = os.path.join("tools", "kernel_bench.py")
PEERS = os.path.join("tools", "bench", "peers")
SOURCES = os.path.join("tests", "kernels", "cuda")
SAMPLES = os.path.join(SOURCES, "sample_bench_lines")


def load(path: str) -> types.ModuleType:
    """A script as a module; without PyTorch, whatever it wants of it."""
    fake = unittest.mock.MagicMock()
    names = ["torch", "torch.nn", "torch.nn.functional", "torch.nn.attention",
             "torch.nn.attention.bias"]
    with unittest.mock.patch.dict(sys.modules, {name: fake for name in names}):
        spec = importlib.util.spec_from_file_location("script", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


kernel_bench = load(SCRIPT)


def sample(bench: str) -> str:
    return subprocess.run([SAMPLES, bench], stdout=subprocess.PIPE, check=True,
                          universal_newlines=True).stdout


def names_of(text: str) -> set[str]:
    names = set()
    for line in text.splitlines():
        found = kernel_bench.LINE.fullmatch(line)
        assert found is not None, line
        names.add(found["name"])
    return names


def lines_of(bench: kernel_bench.Bench) -> str:
    """What a bench prints: its cases, and one line of each other kind."""
    text = sample(bench.program)
    names = names_of(text)
    for kind in bench.kinds:
        if not any(name.startswith(kind) for name in names):
            text += f"{kind}one  10.00 us, limit 8.0000 us, apart 12.0000 us\n"
    return text


class BenchesTest(unittest.TestCase):
    """The benches and peers themselves."""

    def test_kinds_are_what_benches_print(self):
        for bench in kernel_bench.BENCHES:
            path = next(path for path in pathlib.Path(SOURCES).iterdir()
                        if path.stem == bench.program and path.suffix != ".h"
                        and path.suffix in (".cc", ".cu"))
            source = path.read_text(encoding="utf-8")
            names = names_of(sample(bench.program))
            for kind in bench.kinds:
                self.assertTrue(
                    any(name.startswith(kind) for name in names) or
                    f'"{kind}' in source, f"{bench.program}: {kind}")

    def test_benches_print_no_times_of_their_own(self):
        for path in pathlib.Path(SOURCES).iterdir():
            for text in re.findall(r'"[^"\n]*"',
                                   path.read_text(encoding="utf-8")
                                   if path.suffix in (".cc", ".cu") else ""):
                # Plans and tiles are for people.
                if re.search(r"%\S*f us\b", text):
                    self.assertRegex(text, r"panels of|tiles|route")

    def test_prefills_of_pytorch_are_ours(self):
        script = load(os.path.join(PEERS, "sdpa_bench.py"))
        self.assertLessEqual({script.name_of(*case) for case in script.CASES},
                             names_of(sample("attention_bench")))

    def test_products_of_pytorch_are_ours(self):
        script = load(os.path.join(PEERS, "linear_bench.py"))
        ours = {name for name in names_of(sample("product_bench"))
                if name.startswith("product ")}
        self.assertEqual({name for name, *_ in script.cases()}, ours)

    def test_choices_of_pytorch_are_ours(self):
        script = load(os.path.join(PEERS, "sampling_bench.py"))
        names = {script.name_of(how, rows, kind) for how in script.FILTERS
                 for rows in script.ROWS for kind in script.KINDS}
        self.assertLessEqual(names, names_of(sample("sampler_bench")))
        with open(os.path.join(SOURCES, "sampler_bench.cc"),
                  encoding="utf-8") as source:
            text = source.read()
        for how in script.FILTERS:
            self.assertIn(f'{{"{how}", ', text)


class KernelBenchTest(unittest.TestCase):
    """Whole runs, on programs that print what the benches would."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.bundle = directory.name
        os.mkdir(f"{self.bundle}/bin")
        for bench in kernel_bench.BENCHES:
            self.bundle_bench(bench.program, lines_of(bench))

    def write(self, path: str, text: str) -> str:
        path = f"{self.bundle}/{path}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def bundle_bench(self, program: str, text: str, status: int = 0) -> None:
        lines = self.write(f"lines/{program}", text)
        path = self.write(f"bin/{program}", f"#!/bin/sh\necho \"$@\" >{lines}"
                          f".args\ncat {lines}\nexit {status}\n")
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)

    def bundle_peer(self, script: str, times: dict[str, float],
                    peer: str) -> None:
        text = "".join(f"{name}\t{peer}\t{us}\n" for name, us in times.items())
        self.write(f"data/quire/tools/bench/peers/{script}",
                   "import sys\n"
                   f"open(sys.argv[1], 'w').write({text!r})\n")

    def bundle_fa3(self, times: dict[str, list[float]]) -> str:
        self.write("fa3/fa3_bench.py",
                   "import sys\n"
                   f"open(sys.argv[1], 'w').write({json.dumps(times)!r})\n")
        return f"--fa3={self.bundle}/fa3"

    def run_bench(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, SCRIPT, self.bundle, *arguments],
                              stdout=subprocess.PIPE, universal_newlines=True,
                              check=False)
        return done.returncode, done.stdout

    def test_every_line_is_a_row_and_every_mean_has_cells(self):
        code, text = self.run_bench("--no-peers")
        self.assertEqual(code, 0, text)
        for bench in kernel_bench.BENCHES:
            for name in names_of(lines_of(bench)):
                self.assertIn(f"\n{name:58} ", text)
        for line in text[text.index("geometric mean of"):].splitlines()[1:]:
            other = re.search(r"(\S+)/ours", line)[1]
            if other not in ("FA3", "cuDNN", "torch"):
                self.assertNotRegex(line, r" 0 +- ")

    def test_a_row_has_its_limit_and_its_peers(self):
        code, text = self.run_bench("--no-peers")
        self.assertEqual(code, 0, text)
        lines = text.splitlines()
        at = next(i for i, line in enumerate(lines)
                  if line.startswith("product QKV, 32 rows "))
        self.assertEqual(lines[at].split()[4:],
                         ["20.00", "0.750", "Lt", "guess", "40.0", "2.00"])
        self.assertEqual(lines[at + 1].split(), ["Lt", "tuned", "22.0", "1.10"])

    def test_peers_are_joined_by_name(self):
        self.bundle_peer("linear_bench.py", {"product O, 8 rows": 30,
                                             "product O, 512 rows": 10},
                         "torch")
        self.bundle_peer("sdpa_bench.py",
                         {"prefill 32/8, 1 x 2048 of 2048": 50}, "cuDNN")
        code, text = self.run_bench()
        self.assertEqual(code, 0, text)
        self.assertRegex(text, r"\n +torch +30\.0 +1\.50\n")
        self.assertRegex(text, r"prefill 32/8, 1 x 2048 of 2048 +20\.00 +0\.750"
                               r" +cuDNN +50\.0 +2\.50\n")
        self.assertRegex(text, r"products, 1 to 64 rows +torch/ours +1 +1\.500"
                               r" +1\.500 product O, 8 rows\n")
        self.assertIn("not measured: sampling_bench.py, which the bundle lacks",
                      text)

    def test_flash_attention_is_joined_and_averaged(self):
        option = self.bundle_fa3({
            "decode 32/8 B=1 ctx=512 page=16": [10.0, 1],
            "decode 32/8 B=8 ctx=2048 page=16": [40.0, 1],
            "decode 32/8 B=2 ctx=77 page=16": [1.0, 1],
            "decode 32/8 B=256 ctx=512 page=16": [30.0, 1],
            "decode 40/40 B=32 ctx=1024 page=16": [20.0, 1],
            "decode 40/40 B=1 ctx=512 page=16": [20.0, 1],
            "prefill 32/8 S=1024 page=16": [30.0, 1],
            "chunk 512 over 8704 ctx": [44.0, 1]})
        code, text = self.run_bench("--no-peers", option)
        self.assertEqual(code, 0, text)
        self.assertRegex(text, r"decode 32/8, 1 to 128 of 512 to 32k +FA3/ours"
                               r" +2 +1\.000 +0\.500 decode 32/8, 1 x 512\n")
        self.assertRegex(text, r"decode 40/40, 32 or more of up to 1k +FA3/ours"
                               r" +1 +1\.000")
        self.assertRegex(text, r"prefill 32/8, one prompt of 1k to 16k +"
                               r"FA3/ours +1 +1\.500")
        self.assertRegex(text, r"prefill 32/8, 1 x 512 of 8704 +20\.00 +0\.750"
                               r" +FA3 +44\.0 +2\.20\n")

    def test_a_mean_that_the_peer_has_no_cell_of_fails(self):
        self.bundle_peer("linear_bench.py", {"product O, 8 rows": 30}, "torch")
        code, text = self.run_bench()
        self.assertEqual(code, 1)
        self.assertIn("FAILED: products, 128 and more rows: none beside torch",
                      text)
        self.assertEqual(text.count("FAILED"), 1)

    def test_times_of_no_kernel_of_ours_fail(self):
        self.bundle_peer("linear_bench.py", {"QKV 8": 30}, "torch")
        option = self.bundle_fa3({"decode B=1": [10.0, 1]})
        code, text = self.run_bench(option)
        self.assertEqual(code, 1)
        self.assertIn("FAILED: linear_bench.py: no time of a kernel of ours",
                      text)
        self.assertIn("FAILED: fa3_bench.py: no 'decode 40/40'", text)

    def test_a_kind_without_a_line_fails(self):
        self.bundle_bench("op_bench", "copy of 1 GiB  9.00 us\n")
        code, text = self.run_bench("--no-peers")
        self.assertEqual(code, 1)
        self.assertIn("FAILED: op_bench: no line of 'swap out'", text)
        self.assertNotIn("no line of 'copy of 1 GiB'", text)

    def test_a_time_that_cannot_be_read_fails(self):
        bench = kernel_bench.BENCHES[0]
        self.bundle_bench(bench.program, lines_of(bench) +
                          "I1123 12:00:00.0 a.cc:3] tuned in 12 us\n"
                          "decode 1 x 2  12.00 us at best\n")
        code, text = self.run_bench("--no-peers")
        self.assertEqual(code, 1)
        self.assertIn("FAILED: attention_bench: no such line is known: decode "
                      "1 x 2  12.00 us at best", text)
        self.assertNotIn("tuned in", text)

    def test_a_bench_that_fails_is_named_with_its_last_words(self):
        bench = kernel_bench.BENCHES[1]
        self.bundle_bench(bench.program, lines_of(bench) + "no CUDA device\n",
                          status=3)
        code, text = self.run_bench("--no-peers")
        self.assertEqual(code, 1)
        self.assertRegex(text, r"FAILED: product_bench: status 3, see .*:\n"
                               r"(.*\n)+  no CUDA device\n")

    def test_peers_without_pytorch_are_not_measured(self):
        self.write("data/quire/tools/bench/peers/sdpa_bench.py",
                   "raise ModuleNotFoundError(\"No module named 'torch'\")\n")
        self.write("data/quire/tools/bench/peers/linear_bench.py",
                   "raise RuntimeError('no device')\n")
        code, text = self.run_bench()
        self.assertEqual(code, 1)
        self.assertIn("not measured: sdpa_bench.py, for want of PyTorch", text)
        self.assertIn("FAILED: linear_bench.py: status 1", text)

    def test_times_of_an_earlier_run_are_forgotten(self):
        self.bundle_peer("linear_bench.py", {"product O, 8 rows": 30}, "torch")
        self.run_bench()
        self.write("data/quire/tools/bench/peers/linear_bench.py", "")
        _, text = self.run_bench()
        self.assertNotRegex(text, r"torch +30\.0")

    def test_a_short_look_is_asked_of_benches_that_know_it(self):
        self.run_bench("--no-peers", "--quick")
        asked = {}
        for bench in kernel_bench.BENCHES:
            with open(f"{self.bundle}/lines/{bench.program}.args",
                      encoding="utf-8") as arguments:
                asked[bench.program] = arguments.read().split()
        self.assertEqual(asked, {"attention_bench": [], "sampler_bench": [],
                                 "moe_bench": [],
                                 "product_bench": ["--quick"],
                                 "op_bench": ["--quick"]})

    def test_an_empty_bundle_and_unknown_options_are_no_success(self):
        for bench in kernel_bench.BENCHES:
            os.remove(f"{self.bundle}/bin/{bench.program}")
        code, text = self.run_bench("--no-peers")
        self.assertEqual(code, 1)
        self.assertIn("not measured: op_bench, which the bundle lacks", text)
        self.assertEqual(self.run_bench("--qick")[0], 1)


if __name__ == "__main__":
    unittest.main()
