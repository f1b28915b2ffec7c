# SPDX-License-Identifier: Apache-2.0
"""Tests tools/step_floor.py against floors worked out by hand."""
import sys
import unittest

sys.path.insert(0, "tools")
from step_floor import Shape, decode_seconds, output_rate, prompt_seconds

PROMPT, OUTPUT = 161.31, 337.99  # mean tokens of ShareGPT in the paper


class StepFloorTest(unittest.TestCase):

    def setUp(self):
        self.small, self.llama, self.opt = (
            Shape(f"tools/bench/{name}")
            for name in ("llama_3_1_8b", "llama_2_13b", "opt_13b"))

    def _decode_ms(self, shape, batch, ranks=1):
        return 1e3 * decode_seconds(shape, batch, 512, ranks)

    def test_models_have_the_weights_that_they_are_known_for(self):
        for shape, gigabytes in ((self.small, 15.01), (self.llama, 25.70),
                                 (self.opt, 25.68)):
            weights = shape.layers * shape.layer_weights + shape.head_weights
            self.assertAlmostEqual(2 * weights / 1e9, gigabytes, delta=0.01)
        self.assertEqual(self.small.kv_bytes(1), 131072)
        self.assertEqual(self.opt.kv_bytes(1), 819200)

    def test_decodes_read_weights_or_multiply_by_them(self):
        for batch, ms in ((1, 3.51), (32, 3.99), (128, 5.49), (256, 8.86)):
            self.assertAlmostEqual(self._decode_ms(self.small, batch), ms,
                                   delta=0.005)
        self.assertAlmostEqual(self._decode_ms(self.llama, 32), 9.10,
                               delta=0.005)

    def test_ranks_share_the_work_and_sum_twice_a_layer(self):
        for batch, ms in ((1, 1.98), (32, 2.26), (128, 3.15), (256, 5.02)):
            self.assertAlmostEqual(self._decode_ms(self.small, batch, 2), ms,
                                   delta=0.005)
        self.assertAlmostEqual(self._decode_ms(self.llama, 256, 2), 17.5,
                               delta=0.05)

    def test_ranks_beyond_the_heads_keep_a_copy_each(self):
        self.assertEqual(self.small.kv_bytes(8), 131072 / 8)
        self.assertEqual(self.small.kv_bytes(16), 131072 / 8)

    def test_prompts_multiply_and_attend_to_themselves(self):
        for tokens, ms in ((512, 9.13), (2048, 37.6), (8192, 167)):
            self.assertAlmostEqual(1e3 * prompt_seconds(self.small, tokens), ms,
                                   delta=0.05)
        # Weights are read all the same.
        self.assertAlmostEqual(1e3 * prompt_seconds(self.small, 1), 3.49,
                               delta=0.005)

    def test_output_has_a_ceiling(self):
        self.assertAlmostEqual(output_rate(self.small, PROMPT, OUTPUT), 26.67e3,
                               delta=10)
        self.assertAlmostEqual(output_rate(self.opt, PROMPT, OUTPUT), 9.04e3,
                               delta=10)
        one = output_rate(self.small, PROMPT, OUTPUT, ranks=2)
        self.assertLess(one, 2 * 26.67e3)
        self.assertEqual(output_rate(self.small, PROMPT, OUTPUT, 2, groups=4),
                         4 * one)


if __name__ == "__main__":
    unittest.main()
