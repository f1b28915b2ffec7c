# SPDX-License-Identifier: Apache-2.0
"""What the tools say of values that their flags cannot have: one line, with the
flag, and exit status 2."""
import subprocess
import unittest

SIMULATE = "tools/simulator/simulate"
ADVISE = "tools/simulator/advise"
PAPER = "tools/paper/paper"
SPARSE = "tools/sparse_attention/sparse_attention"

CASES = [
    (SIMULATE, "--preset=none", "h200_llama8b"),
    (SIMULATE, "--workload=none", "sharegpt, alpaca"),
    (SIMULATE, "--workload=/no/file", "--workload: cannot read /no/file"),
    (SIMULATE, "--rate=nan", "must be above 0"),
    (SIMULATE, "--n=17", "--n=17 is outside 1..16"),
    (SIMULATE, "--beam_width=17", "--beam_width=17 is outside 0..16"),
    (SIMULATE, "--prefix_len=-1", "--prefix_len=-1 is outside 0.."),
    (SIMULATE, "--kv_slots=-1", "--kv_slots=-1 is outside 0.."),
    (SIMULATE, "--max_num_seqs=4294967297", "--max_num_seqs=4294967297"),
    (ADVISE, "--gpu=none", "h200_llama8b"),
    (ADVISE, "--model=/no/file", "--model: cannot read /no/file"),
    (ADVISE, "--workload=none", "sharegpt, alpaca"),
    (ADVISE, "--tensor_parallel_size=0", "--tensor_parallel_size=0"),
    (ADVISE, "--memory_utilization=7", "above 0 and at most 1"),
    (ADVISE, "--ttft_ms=-1", "must be 0 or more"),
    (PAPER, "--device=tpu", "--device=tpu is neither cpu nor cuda"),
    (PAPER, "--tensor_parallel_size=0", "--tensor_parallel_size=0"),
    (SPARSE, "--pages=1", "--pages=1: want numbers of at least 4"),
    (SPARSE, "--dtype=int8", "--dtype=int8: want bfloat16 or float32"),
    (SPARSE, "--stpes=1", "--stpes"),
]


class UsageTest(unittest.TestCase):

    def test_values_that_a_flag_cannot_have_are_wrong_usage(self):
        for program, flag, says in CASES:
            with self.subTest(program=program, flag=flag):
                done = subprocess.run([program, flag], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True,
                                      check=False)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(says, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    unittest.main()
