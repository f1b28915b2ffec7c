# SPDX-License-Identifier: Apache-2.0
"""Runs tools/cluster_bench.py and weights_bench.py on CPUs, with a tiny model
and with programs in place of nvidia-smi, vLLM and transformers: every row is
there. No time is looked at."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, "tools")
from bench_cluster import idleness_us

PROGRAMS = ("tools/quire/quire", "tools/loadgen/loadgen",
            "coordinator/quire_coordinator", "worker/quire_worker")
MODEL = {
    "architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
    "eos_token_id": 2, "head_dim": 16, "hidden_act": "silu", "hidden_size": 64,
    "intermediate_size": 128, "max_position_embeddings": 2048,
    "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 512,
}
NVIDIA_SMI = """#!/bin/sh
echo '0, 1500, 650.50'
echo '0, [N/A], [N/A]'
echo '1, 300, 80.00'
exec cat
"""
VLLM = """
class SamplingParams:
    def __init__(self, max_tokens, **others):
        self.max_tokens = max_tokens

class Made:
    def __init__(self, count):
        self.outputs = [self]
        self.token_ids = [0] * count

class LLM:
    def __init__(self, model, tensor_parallel_size, **others):
        assert tensor_parallel_size == 1

    def generate(self, prompts, sampling, use_tqdm):
        return [Made(each.max_tokens) for each in sampling]
"""
TORCH = """
import contextlib
bfloat16 = "bfloat16"

class cuda:
    is_available = staticmethod(lambda: False)

device = contextlib.nullcontext
"""
TRANSFORMERS = """
import contextlib
import types

def GenerationConfig(**others):
    assert others["eos_token_id"] == -1
    return others

def ContinuousBatchingConfig(allow_block_sharing):
    assert not allow_block_sharing

class AutoConfig:
    vocab_size = 512
    from_pretrained = staticmethod(lambda folder: AutoConfig)

class AutoModelForCausalLM:
    from_config = staticmethod(lambda config, **others: AutoModelForCausalLM())

    def eval(self):
        return self

    @contextlib.contextmanager
    def continuous_batching_context_manager(self, **others):
        yield Manager()

class Manager:
    def __init__(self):
        self.done = []

    def add_request(self, prompt, max_new_tokens):
        self.done.append(types.SimpleNamespace(
            error=None, is_finished=lambda: True, request_id=len(self.done),
            generated_tokens=[0] * max_new_tokens))
        return len(self.done) - 1

    def get_result(self, timeout):
        return self.done.pop()
"""
STEPS = ["decode 1 x 512, ms", "decode 2 x 512, ms", "prefill 16, ms"]
LOAD = ["load, output tok/s", "load, failed", "coordinator, % of a core",
        "coordinator, % for 1k tok/s", "workers, % of a core",
        "GPU clock, MHz", "GPU power, W",
        "GPU idle between steps p50, us", "GPU idle between steps p99, us"]


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


class ClusterBenchTest(unittest.TestCase):

    def setUp(self):
        self._dir = tempfile.TemporaryDirectory()
        self._path = self._dir.name
        bundle = f"{self._path}/bundle"
        os.makedirs(f"{bundle}/bin")
        for program in PROGRAMS:
            os.symlink(os.path.realpath(program),
                       f"{bundle}/bin/{os.path.basename(program)}")
        data = f"{bundle}/data/quire/tools"
        write(f"{data}/bench/tiny/config.json", json.dumps(MODEL))
        write(f"{data}/workloads/sharegpt_paper.jsonl",
              '{"prompt_len": 20, "output_len": 12}\n' * 8)
        write(f"{self._path}/bin/nvidia-smi", NVIDIA_SMI)
        os.chmod(f"{self._path}/bin/nvidia-smi", 0o755)
        write(f"{self._path}/peers/vllm.py", VLLM)
        write(f"{self._path}/peers/torch.py", TORCH)
        write(f"{self._path}/peers/transformers.py", TRANSFORMERS)

    def tearDown(self):
        self._dir.cleanup()

    def _run(self, logs, *flags):
        path = f"{self._path}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, "tools/cluster_bench.py", f"{self._path}/bundle",
             f"{self._path}/{logs}", "tiny", "--device=cpu",
             "--num_gpu_blocks_override=400", "--num_threads=1", *flags],
            env=dict(os.environ, PATH=path), stdout=subprocess.PIPE,
            stdin=subprocess.PIPE, text=True, check=False)
        table = done.stdout[done.stdout.find("\ntiny, TP ") + 1:]
        return done.returncode, table.splitlines()

    def _result(self, logs):
        with open(f"{self._path}/{logs}/result.json", encoding="utf-8") as file:
            return json.load(file)

    def test_every_row_is_there_beside_its_limit_and_its_peers(self):
        code, table = self._run(
            "one", "--num_prompts=8", "--batches=1,2", "--prompts=16",
            f"--vllm={self._path}/peers", f"--hf={self._path}/peers",
            "--hf_prompts=4")
        self.assertEqual(code, 0, table)
        hf_load = "load of 4, output tok/s"
        names = ["ready, s", *STEPS, hf_load, *LOAD]
        self.assertEqual([line[2:34].strip() for line in table[2:]], names)
        result = self._result("one")
        self.assertEqual(list(result["figures"]), names)
        self.assertEqual(set(result["limits"]), {*STEPS, LOAD[0]})
        peers = result["peers"]
        self.assertEqual(set(peers["vLLM"]), {"ready, s", *STEPS, LOAD[0]})
        self.assertEqual(set(peers["transformers"]), {hf_load})
        self.assertEqual(result["figures"]["GPU clock, MHz"], 1500)
        self.assertEqual(result["figures"]["GPU power, W"], 650.5)

    def test_streams_are_verified_and_runs_compared(self):
        code, table = self._run("one", "--num_prompts=8", "--no-steps")
        self.assertEqual(code, 0, table)
        code, table = self._run(
            "two", "--num_prompts=8", "--no-steps", "--tensor_parallel_size=2",
            f"--against={self._path}/one/result.json")
        self.assertEqual(code, 0, table)
        self.assertEqual(set(self._result("two")["peers"]["TP 1, 1 gr."]),
                         {"load, output tok/s"})
        code, table = self._run("three", "--num_prompts=8", "--verify")
        self.assertEqual(code, 0, table)
        self.assertEqual(self._result("three")["figures"]["differing of 8"], 0)

    def test_a_checkpoint_is_served_and_its_loading_told(self):
        done = subprocess.run(
            [sys.executable, "tools/weights_bench.py", f"{self._path}/bundle",
             f"{self._path}/weights", "tiny", "--device=cpu",
             "--num_gpu_blocks_override=400", "--num_threads=1"],
            stdout=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout,
                         r"weights: [\d.]+ GB in [\d.]+ s, [\d.]+ GB/s\n"
                         r"ready after [\d.]+ s")

    def test_a_peer_that_fails_fails_the_run(self):
        write(f"{self._path}/peers/vllm.py", "raise ImportError\n")
        code, table = self._run("one", "--num_prompts=8", "--no-steps",
                                f"--vllm={self._path}/peers")
        self.assertEqual(code, 1)
        self.assertIn("load, output tok/s", "".join(table))
        self.assertIn("vLLM failed: ended with status 1", "".join(table))

    def test_a_peer_that_hangs_is_killed_with_its_children(self):
        # Written to by the child that it waits for, until that is gone.
        pipe = f"{self._path}/pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        write(f"{self._path}/peers/vllm.py",
              "import subprocess\n"
              "subprocess.run('echo x; exec sleep infinity', shell=True,\n"
              f"               stdout=open('{pipe}', 'w'))\n")
        code, table = self._run(
            "one", "--num_prompts=8", "--no-steps", "--peer_seconds=2",
            f"--vllm={self._path}/peers", f"--hf={self._path}/peers",
            "--hf_prompts=4")
        os.read(reader, 9)
        self.assertEqual(os.read(reader, 9), b"")  # else it would be no end
        os.close(reader)
        self.assertEqual(code, 1)
        self.assertIn("vLLM failed: took longer than --peer_seconds=2",
                      "".join(table))
        result = self._result("one")
        self.assertIn("load, output tok/s", result["figures"])
        self.assertIn("--peer_seconds=2", result["failures"]["vLLM"])
        # The next one still had its turn.
        self.assertEqual(set(result["peers"]), {"transformers"})

    def test_the_worker_that_idles_longest_counts(self):
        told = "] device idle between steps: p50 %s, p99 %s us of the last 9\n"
        write(f"{self._path}/logs/worker_0.log",
              told % ("90.0", "99.0") + told % ("18.1", "24.1"))
        write(f"{self._path}/logs/worker_1.log", told % ("17.0", "30.5"))
        self.assertEqual(idleness_us(f"{self._path}/logs"), (18.1, 30.5))
        self.assertEqual(idleness_us(self._path), (None, None))


if __name__ == "__main__":
    unittest.main()
