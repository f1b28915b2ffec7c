# SPDX-License-Identifier: Apache-2.0
"""tools/gpu_table.py reads what benches print now, from the benches."""
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, "tools")
import cluster_bench
import gpu_table
import kernel_bench
from step_floor import Shape

# Prompts of engine_bench hold any of some 30,000 tokens.
MODEL = {
    "architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
    "eos_token_id": 2, "head_dim": 16, "hidden_act": "silu", "hidden_size": 64,
    "intermediate_size": 128, "max_position_embeddings": 2048,
    "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "vocab_size": 32000,
}
DECODE, RATE = "decode 1 x 512, ms", "load, output tok/s"


class GpuTableTest(unittest.TestCase):

    def setUp(self):
        self._dir = tempfile.TemporaryDirectory()
        self._path = self._dir.name
        with open(f"{self._path}/config.json", "w", encoding="utf-8") as file:
            json.dump(MODEL, file)

    def tearDown(self):
        self._dir.cleanup()

    def _show(self, report):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            report.show()
        return out.getvalue()

    def test_kernels(self):
        report = kernel_bench.Report()
        report.rows = [
            kernel_bench.Row("decode 32/8, 1 x 512", 6.0, 3.0,
                             {"FA3": 12.0, "cuDNN": 24.0}),
            kernel_bench.Row("greedy, 256 rows, of all", 36.0, None, {})]
        found = [figure for figure in gpu_table.kernel_figures(
            self._show(report)) if figure.name]
        self.assertEqual(found, [
            gpu_table.Figure("decode 32/8, 1 x 512", "6.00 us", 0.5,
                             {"FA3": 2.0, "cuDNN": 4.0}),
            gpu_table.Figure("greedy, 256 rows, of all", "36.00 us", None, {})])

    def test_steps(self):
        text = subprocess.run(
            ["tools/bench/engine_bench", f"--model={self._path}",
             "--device=cpu", "--decodes=1x64", "--prefills=32",
             "--mixes=2x64+16", "--num_blocks=400", "--max_num_seqs=8",
             "--steps=2"], stdout=subprocess.PIPE, text=True, check=True).stdout
        names = [figure.name for figure in gpu_table.step_figures(text)]
        self.assertEqual(names, ["1x64", "prefill 32", "2x64+16", ""])

    def _result(self, ranks, decode_ms, rate):
        report = cluster_bench.Report("tiny", Shape(self._path), ranks,
                                      groups=1)
        report.add(DECODE, decode_ms, limit=1.0)
        report.add(RATE, rate, limit=1000.0)
        report.add("GPU power, W", None)
        report.peers["vLLM"] = {DECODE: 8.0, RATE: 100.0}
        os.makedirs(f"{self._path}/tiny.dp1.tp{ranks}")
        report.save(f"{self._path}/tiny.dp1.tp{ranks}/result.json")

    def test_clusters(self):
        self._result(1, decode_ms=4.0, rate=200.0)
        self._result(2, decode_ms=2.0, rate=300.0)
        results = gpu_table.read_results(self._path)
        run = gpu_table.Run("serve", "tiny.dp1.tp2", "ok", "9", "")
        self.assertEqual(gpu_table.figures_of(run, self._path, results), [
            gpu_table.Figure(DECODE, "2.00", 0.5,
                             {"vLLM": 4.0, "one GPU": 2.0}),
            gpu_table.Figure(RATE, "300.00", 0.3,
                             {"vLLM": 3.0, "one GPU": 1.5})])

    def test_the_last_run_of_a_name_counts(self):
        with open(f"{self._path}/book.tsv", "w", encoding="utf-8") as book:
            book.write("steps\ta\tFAIL\t1\t\ntests\tb\tok\t1\t\n"
                       "steps\ta\tok\t2\tx\n")
        runs = gpu_table.read_book(f"{self._path}/book.tsv")
        self.assertEqual([(run.name, run.status) for run in runs],
                         [("b", "ok"), ("a", "ok")])


if __name__ == "__main__":
    unittest.main()
