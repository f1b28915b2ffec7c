# SPDX-License-Identifier: Apache-2.0
"""Tests tools/bench/random_checkpoint.py on a shape of a few kilobytes."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join("tools", "bench"))
import random_checkpoint  # noqa: E402

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "vocab_size": 50,
}


def read(path):
    """Tensors of a file: shape and bytes by name."""
    with open(path, "rb") as file:
        data = file.read()
    (size,) = struct.unpack("<Q", data[:8])
    body = data[8 + size:]
    tensors, end = {}, 0
    for name, tensor in json.loads(data[8:8 + size]).items():
        begin, stop = tensor["data_offsets"]
        assert begin == end and tensor["dtype"] == "BF16"
        tensors[name] = (tensor["shape"], body[begin:stop])
        end = stop
    assert end == len(body)
    return tensors


class RandomCheckpointTest(unittest.TestCase):

    def setUp(self):
        self._dir = tempfile.TemporaryDirectory()
        self._out = os.path.join(self._dir.name, "out")

    def tearDown(self):
        self._dir.cleanup()

    def _write(self, config):
        with open(os.path.join(self._dir.name, "config.json"), "w",
                  encoding="utf-8") as file:
            json.dump(config, file)
        return subprocess.run(
            [sys.executable, "tools/bench/random_checkpoint.py",
             self._dir.name, self._out], capture_output=True, text=True,
            check=False)

    def _read_all(self):
        with open(os.path.join(self._out, "model.safetensors.index.json"),
                  encoding="utf-8") as file:
            index = json.load(file)
        tensors = {}
        for name in sorted(set(index["weight_map"].values())):
            found = read(os.path.join(self._out, name))
            for tensor in found:
                self.assertEqual(index["weight_map"][tensor], name)
            tensors.update(found)
        self.assertEqual(set(tensors), set(index["weight_map"]))
        self.assertEqual(sum(len(data) for _, data in tensors.values()),
                         index["metadata"]["total_size"])
        return tensors

    def test_holds_every_tensor_of_the_shape(self):
        self.assertEqual(self._write(CONFIG).returncode, 0)
        tensors = self._read_all()
        self.assertEqual(len(tensors), 3 + 2 * 9)
        shapes = {name: shape for name, (shape, _) in tensors.items()}
        self.assertEqual(shapes["lm_head.weight"], [50, 24])
        layer = "model.layers.1."
        self.assertEqual(shapes[layer + "self_attn.k_proj.weight"], [12, 24])
        self.assertEqual(shapes[layer + "self_attn.o_proj.weight"], [24, 24])
        self.assertEqual(shapes[layer + "mlp.down_proj.weight"], [24, 40])
        for shape, data in tensors.values():
            self.assertEqual(len(data), random_checkpoint.bytes_of(shape))

    def test_numbers_are_small_of_both_signs(self):
        self._write(CONFIG)
        _, data = self._read_all()["lm_head.weight"]
        numbers = [struct.unpack("<f", b"\0\0" + data[i:i + 2])[0]
                   for i in range(0, len(data), 2)]
        for number in numbers:
            self.assertTrue(2**-7 <= abs(number) < 2**-6, number)
        self.assertGreater(len(set(numbers)), 200)
        self.assertTrue(min(numbers) < 0 < max(numbers))

    def test_fills_files_up_to_their_limit(self):
        shapes = {"a": [600], "b": [400], "c": [1], "d": [3000], "e": [2]}
        limit, random_checkpoint.MAX_FILE_BYTES = (
            random_checkpoint.MAX_FILE_BYTES, 2000)
        self.addCleanup(setattr, random_checkpoint, "MAX_FILE_BYTES", limit)
        self.assertEqual(random_checkpoint.files_of(shapes),
                         [["a", "b"], ["c"], ["d"], ["e"]])

    def test_ties_and_head_dims_follow_the_config(self):
        self._write({**CONFIG, "tie_word_embeddings": True, "head_dim": 8})
        tensors = self._read_all()
        self.assertNotIn("lm_head.weight", tensors)
        self.assertEqual(
            tensors["model.layers.0.self_attn.q_proj.weight"][0], [32, 24])

    def test_refuses_other_families_by_name(self):
        done = self._write({**CONFIG, "architectures": ["OPTForCausalLM"]})
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("OPTForCausalLM", done.stderr)


if __name__ == "__main__":
    unittest.main()
