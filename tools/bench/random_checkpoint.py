#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of random weights in the published format, to time its loading.

    random_checkpoint.py FOLDER_WITH_CONFIG OUT

Writes bfloat16 safetensors of a LlamaForCausalLM's shapes, in files of up to 4
GiB with their index, and the config beside them: 16 GB for 8B, at the speed of
OUT's file system. Weights are between 2^-7 and 2^-6 in magnitude, and repeat
after a MiB. `quire serve --model=OUT --skip_tokenizer_init` then tells how fast
they came to the device:

    weights  100% 15316.5/15316.5 MiB  4536.0 MiB/s  took 3.4s
"""
import json
import os
import random
import shutil
import struct
import sys

MAX_FILE_BYTES = 4 << 30
BLOCK_BYTES = 1 << 20


def shapes_of(config):
    """Tensors by name, as published checkpoints order them."""
    if config["architectures"] != ["LlamaForCausalLM"]:
        sys.exit(f"random_checkpoint: \"architectures\" is "
                 f"{config['architectures']}; only LlamaForCausalLM is known")
    hidden = config["hidden_size"]
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or hidden // heads
    keys = config.get("num_key_value_heads", heads) * width
    inner = config["intermediate_size"]
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes.update({
            layer + "input_layernorm.weight": [hidden],
            layer + "mlp.down_proj.weight": [hidden, inner],
            layer + "mlp.gate_proj.weight": [inner, hidden],
            layer + "mlp.up_proj.weight": [inner, hidden],
            layer + "post_attention_layernorm.weight": [hidden],
            layer + "self_attn.k_proj.weight": [keys, hidden],
            layer + "self_attn.o_proj.weight": [hidden, heads * width],
            layer + "self_attn.q_proj.weight": [heads * width, hidden],
            layer + "self_attn.v_proj.weight": [keys, hidden]})
    shapes["model.norm.weight"] = [hidden]
    if not config.get("tie_word_embeddings", False):
        shapes["lm_head.weight"] = [config["vocab_size"], hidden]
    return shapes


def bytes_of(shape):
    size = 2
    for extent in shape:
        size *= extent
    return size


def files_of(shapes):
    """Lists of names whose tensors fill a file each."""
    files, room = [], 0
    for name, shape in shapes.items():
        if bytes_of(shape) > room:
            files.append([])
            room = MAX_FILE_BYTES
        files[-1].append(name)
        room -= bytes_of(shape)
    return files


def random_block():
    """bfloat16 of any sign and fraction, with the exponent of 2^-7."""
    bits = int.from_bytes(random.Random(1).randbytes(BLOCK_BYTES), "little")
    numbers = BLOCK_BYTES // 2
    kept = int.from_bytes(b"\x7f\x80" * numbers, "little")
    exponent = int.from_bytes(b"\x00\x3c" * numbers, "little")
    return (bits & kept | exponent).to_bytes(BLOCK_BYTES, "little")


def write_file(path, names, shapes, block):
    header, end = {}, 0
    for name in names:
        begin, end = end, end + bytes_of(shapes[name])
        header[name] = {"dtype": "BF16", "shape": shapes[name],
                        "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for begin in range(0, end, BLOCK_BYTES):
            file.write(block[:end - begin])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, out = sys.argv[1:]
    with open(f"{source}/config.json", encoding="utf-8") as file:
        shapes = shapes_of(json.load(file))
    os.makedirs(out, exist_ok=True)
    shutil.copy(f"{source}/config.json", out)
    files, block, where = files_of(shapes), random_block(), {}
    for i, names in enumerate(files, start=1):
        name = f"model-{i:05d}-of-{len(files):05d}.safetensors"
        write_file(f"{out}/{name}", names, shapes, block)
        where.update(dict.fromkeys(names, name))
    total = sum(bytes_of(shape) for shape in shapes.values())
    with open(f"{out}/model.safetensors.index.json", "w",
              encoding="utf-8") as file:
        json.dump({"metadata": {"total_size": total}, "weight_map": where},
                  file, indent=2)
    print(f"{out}: {total} bytes in {len(files)} files")


if __name__ == "__main__":
    main()
