# SPDX-License-Identifier: Apache-2.0
"""Makes the golden models: tiny random checkpoints and what Hugging Face
transformers computes with them.

Run in an environment with torch, transformers and safetensors (the versions
that made the committed files are in each golden.json):

    python3 tests/golden/make_models.py [NAME ...]

For every model, beside its config.json and safetensors:
  golden.json   prompts, greedy tokens, which logits are kept
  logits.f32    float32 logits, little-endian, [prompts][step][vocab]: those of
                the first and of every 8th generated token

Weights are scaled up so that the next token is rarely a near tie; prompts
whose two best logits come closer than GAP at any of the 64 steps are left out,
so that greedy tokens can be compared exactly.
"""

import copy
import json
import os
import sys

import numpy as np
import safetensors.torch
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
NUM_PROMPTS = 3
NUM_STEPS = 64
LOGITS_EVERY = 8
PROMPT_LENGTHS = [1, 7, 33, 18, 50, 4]
# In fp32, of logits that should agree within 1e-4; the bf16 model is compared
# token by token only as far as its own gaps allow (see the tests).
GAP = 2e-3
# Of the last expert that a token has and the first that it has not: float32
# rounds router logits by a thousandth of it. In bfloat16 it counts where logits
# are kept: a token with another expert would have other logits.
ROUTER_GAP = 5e-4
BF16_ROUTER_GAP = 0.2
# Tokens for which the tests serve: the length by which rotations turn that
# depend on it (RopeConfig in common/model_config.h).
MAX_MODEL_LEN = 160

LLAMA = dict(
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=256,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
)
OPT = dict(
    hidden_size=48,
    ffn_dim=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    vocab_size=256,
    max_position_embeddings=256,
    word_embed_proj_dim=48,
    dropout=0.0,
    bos_token_id=2,
    eos_token_id=2,
    pad_token_id=1,
)
# Groups of three query heads.
LLAMA_LIKE = {
    **LLAMA,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 88,
}
GPT2 = dict(
    n_embd=48,
    n_head=6,
    n_layer=2,
    n_positions=256,
    vocab_size=256,
    bos_token_id=2,
    eos_token_id=2,
)
PHI = dict(
    hidden_size=48,
    intermediate_size=104,
    num_hidden_layers=2,
    num_attention_heads=6,
    vocab_size=256,
    max_position_embeddings=256,
    rope_parameters=dict(
        rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5
    ),
    bos_token_id=2,
    eos_token_id=2,
)
LLAMA3_SCALING = dict(
    rope_type="llama3",
    rope_theta=500.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)


# Eight query heads, for four ranks and more.
MOE = {
    **LLAMA,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
}
QWEN2_MOE = {
    **MOE,
    "num_experts": 5,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 32,
}
QWEN3_MOE = {
    **MOE,
    "head_dim": 12,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
SHORT_FACTORS = [1.0, 1.1, 1.3, 1.5, 1.8, 2.0]
LONG_FACTORS = [1.0, 2.0, 3.5, 5.0, 6.0, 8.5]


def rope(rope_type, theta, **more):
    return dict(rope_type=rope_type, rope_theta=theta, **more)


# name: (config class, overrides, how it is saved)
MODELS = {
    "llama_gqa": ("llama", dict(), dict()),
    "llama_mqa": ("llama", dict(num_key_value_heads=1), dict()),
    "llama_tied": (
        "llama",
        dict(tie_word_embeddings=True, num_key_value_heads=4),
        dict(),
    ),
    "llama_linear_rope": (
        "llama",
        dict(rope_parameters=rope("linear", 10000.0, factor=4.0)),
        dict(old_rope=True),
    ),
    "llama3_rope": (
        "llama",
        dict(rope_parameters=LLAMA3_SCALING, num_hidden_layers=3),
        dict(shard_bytes=60_000),
    ),
    "llama_odd_head_dim": ("llama", dict(head_dim=22), dict()),
    "llama_biases": (
        "llama",
        dict(attention_bias=True, mlp_bias=True, vocab_size=259),
        dict(),
    ),
    "llama_bf16": (
        "llama",
        dict(
            hidden_size=64,
            intermediate_size=128,
            rope_parameters=rope("default", 10000.0),
        ),
        dict(dtype="bfloat16"),
    ),
    "llama_fp16": ("llama", dict(), dict(dtype="float16")),
    "opt_pre_norm": ("opt", dict(), dict()),
    "opt_350m": (
        "opt",
        dict(
            do_layer_norm_before=False,
            word_embed_proj_dim=32,
            num_hidden_layers=3,
        ),
        dict(prefix="decoder."),
    ),
    "opt_no_final_norm": (
        "opt",
        dict(_remove_final_layer_norm=True, vocab_size=259),
        dict(),
    ),
    "opt_no_bias": (
        "opt",
        dict(
            enable_bias=False,
            layer_norm_elementwise_affine=False,
            activation_function="gelu",
        ),
        dict(),
    ),
    "opt_bf16": ("opt", dict(hidden_size=64, word_embed_proj_dim=64),
                 dict(dtype="bfloat16")),
    "mistral_window": ("mistral", dict(sliding_window=12), dict()),
    "mistral_full": (
        "mistral",
        dict(sliding_window=None, head_dim=10, tie_word_embeddings=True),
        dict(),
    ),
    "mistral_bf16": (
        "mistral",
        dict(hidden_size=96, intermediate_size=128, sliding_window=20),
        dict(dtype="bfloat16"),
    ),
    "qwen2_bias": ("qwen2", dict(), dict()),
    "qwen2_mixed_windows": (
        "qwen2",
        dict(
            use_sliding_window=True,
            sliding_window=12,
            max_window_layers=1,
            num_hidden_layers=3,
            tie_word_embeddings=True,
        ),
        dict(),
    ),
    "qwen2_mqa": (
        "qwen2",
        dict(num_attention_heads=4, num_key_value_heads=1, vocab_size=259),
        dict(),
    ),
    "qwen3_tied": (
        "qwen3",
        dict(head_dim=20, tie_word_embeddings=True),
        dict(),
    ),
    "qwen3_biases": (
        "qwen3",
        dict(head_dim=6, attention_bias=True, num_hidden_layers=3),
        dict(),
    ),
    "qwen3_bf16": (
        "qwen3",
        dict(head_dim=16, hidden_size=64, intermediate_size=128),
        dict(dtype="bfloat16"),
    ),
    "gpt2_plain": ("gpt2", dict(), dict()),
    "gpt2_bare": (
        "gpt2",
        dict(n_head=4, n_inner=72, n_layer=3, activation_function="gelu",
             vocab_size=259),
        dict(prefix=""),
    ),
    "gpt2_bf16": ("gpt2", dict(n_embd=72), dict(dtype="bfloat16")),
    "phi_partial": ("phi", dict(), dict()),
    "phi_gqa": (
        "phi",
        dict(
            num_attention_heads=8,
            num_key_value_heads=4,
            hidden_size=64,
            num_hidden_layers=3,
            vocab_size=259,
            rope_parameters=dict(
                rope_type="default",
                rope_theta=10000.0,
                partial_rotary_factor=0.8,
            ),
        ),
        dict(),
    ),
    "phi_bf16": ("phi", dict(hidden_size=72), dict(dtype="bfloat16")),
    "phi_qk_norm": (
        "phi",
        dict(qk_layernorm=True, num_key_value_heads=2),
        dict(),
    ),
    "phi_long_rope": (
        "phi",
        dict(
            num_attention_heads=4,
            max_position_embeddings=256,
            rope_parameters=rope(
                "longrope",
                1000.0,
                partial_rotary_factor=0.5,
                short_factor=SHORT_FACTORS[:3],
                long_factor=LONG_FACTORS[:3],
                original_max_position_embeddings=40,
            ),
        ),
        dict(),
    ),
    "gpt2_untied": ("gpt2", dict(tie_word_embeddings=False), dict()),
    "opt_untied": ("opt", dict(tie_word_embeddings=False), dict()),
    "qwen3_eight_ranks": (
        "qwen3",
        dict(num_attention_heads=8, num_key_value_heads=2, head_dim=6),
        dict(),
    ),
    "llama_dynamic_rope": (
        "llama",
        dict(
            max_position_embeddings=64,
            rope_parameters=rope("dynamic", 1000.0, factor=4.0),
        ),
        dict(),
    ),
    "llama_yarn_rope": (
        "llama",
        dict(
            rope_parameters=rope(
                "yarn", 1000.0, factor=4.0, original_max_position_embeddings=64
            )
        ),
        dict(),
    ),
    "qwen2_yarn_rope": (
        "qwen2",
        dict(
            max_position_embeddings=64,
            rope_parameters=rope(
                "yarn",
                1000.0,
                factor=4.0,
                original_max_position_embeddings=64,
                beta_fast=8.0,
                beta_slow=2.0,
                mscale=0.7,
                mscale_all_dim=1.0,
                truncate=False,
            ),
        ),
        dict(old_rope=True),
    ),
    "llama_short_rope": (
        "llama",
        dict(
            rope_parameters=rope(
                "longrope",
                1000.0,
                short_factor=SHORT_FACTORS,
                long_factor=LONG_FACTORS,
                original_max_position_embeddings=200,
            )
        ),
        dict(),
    ),
    "llama_long_rope": (
        "llama",
        dict(
            rope_parameters=rope(
                "longrope",
                1000.0,
                short_factor=SHORT_FACTORS,
                long_factor=LONG_FACTORS,
                factor=4.0,
                original_max_position_embeddings=64,
            )
        ),
        dict(old_rope=True),
    ),
    "mixtral_plain": (
        "mixtral",
        dict(num_local_experts=4, num_experts_per_tok=2),
        dict(),
    ),
    "mixtral_window": (
        "mixtral",
        dict(
            num_local_experts=3,
            num_experts_per_tok=1,
            sliding_window=12,
            tie_word_embeddings=True,
            vocab_size=259,
        ),
        dict(shard_bytes=60_000),
    ),
    "qwen2_moe_shared": (
        "qwen2_moe",
        dict(mlp_only_layers=[0], num_hidden_layers=3),
        dict(),
    ),
    "qwen2_moe_steps": (
        "qwen2_moe",
        dict(
            decoder_sparse_step=2,
            num_hidden_layers=4,
            norm_topk_prob=True,
            use_sliding_window=True,
            sliding_window=12,
            max_window_layers=3,
        ),
        dict(),
    ),
    "qwen3_moe_plain": ("qwen3_moe", dict(norm_topk_prob=True), dict()),
    "qwen3_moe_tied": (
        "qwen3_moe",
        dict(
            tie_word_embeddings=True,
            attention_bias=True,
            num_experts=7,
            num_experts_per_tok=4,
            num_key_value_heads=1,
        ),
        dict(),
    ),
    "qwen3_moe_bf16": (
        "qwen3_moe",
        dict(
            hidden_size=64,
            head_dim=16,
            mlp_only_layers=[0],
            norm_topk_prob=True,
            moe_intermediate_size=32,
        ),
        dict(dtype="bfloat16"),
    ),
    "llama_odd_heads": (
        "llama",
        dict(
            hidden_size=54,
            num_attention_heads=9,
            num_key_value_heads=3,
            intermediate_size=93,
            vocab_size=257,
        ),
        dict(),
    ),
}

FAMILIES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, LLAMA),
    "opt": (transformers.OPTConfig, transformers.OPTForCausalLM, OPT),
    "mistral": (
        transformers.MistralConfig,
        transformers.MistralForCausalLM,
        LLAMA_LIKE,
    ),
    "qwen2": (
        transformers.Qwen2Config,
        transformers.Qwen2ForCausalLM,
        LLAMA_LIKE,
    ),
    "qwen3": (
        transformers.Qwen3Config,
        transformers.Qwen3ForCausalLM,
        LLAMA_LIKE,
    ),
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel, GPT2),
    "phi": (transformers.PhiConfig, transformers.PhiForCausalLM, PHI),
    "mixtral": (
        transformers.MixtralConfig,
        transformers.MixtralForCausalLM,
        MOE,
    ),
    "qwen2_moe": (
        transformers.Qwen2MoeConfig,
        transformers.Qwen2MoeForCausalLM,
        QWEN2_MOE,
    ),
    "qwen3_moe": (
        transformers.Qwen3MoeConfig,
        transformers.Qwen3MoeForCausalLM,
        QWEN3_MOE,
    ),
}


def randomize(model, seed):
    """Weights that keep activations near 1 and make logits vary."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape, std):
        return torch.randn(shape, generator=generator) * std

    with torch.no_grad():
        for name, param in model.named_parameters():
            is_norm = "norm" in name or ".ln_" in name
            if is_norm and name.endswith("weight"):
                param.copy_(1 + normal(param.shape, 0.2))
            elif param.dim() == 1:
                param.copy_(normal(param.shape, 0.3))
            elif "embed_positions" in name or "wpe" in name:
                param.copy_(normal(param.shape, 1.0))
            elif "embed_tokens" in name or "wte" in name:
                # A tied head would else find the token that it was given.
                small = model.config.model_type in ("opt", "gpt2") or (
                    model.config.tie_word_embeddings
                    and hasattr(model.config, "num_experts_per_tok")
                )
                param.copy_(normal(param.shape, 0.3 if small else 1.0))
            else:
                # GPT-2 stores [in, out]; experts are [expert, out, in].
                fan_in = param.shape[0 if ".c_" in name else -1]
                # A router that is sure of its choice.
                scale = 4.0 if name.endswith("mlp.gate.weight") else 1.6
                param.copy_(normal(param.shape, scale / fan_in**0.5))


def freeze_rope(model):
    """Turns positions as for sequences of MAX_MODEL_LEN tokens, whatever the
    length, where transformers would look at each sequence's own."""
    rotary = getattr(model.base_model, "rotary_emb", None)
    if getattr(rotary, "rope_type", None) not in ("dynamic", "longrope"):
        return
    init = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS[
        rotary.rope_type
    ]
    frequencies, rotary.attention_scaling = init(
        model.config, None, seq_len=MAX_MODEL_LEN
    )
    rotary.inv_freq.copy_(frequencies)
    rotary.rope_type = "frozen"


def build(name, index):
    family, overrides, saving = MODELS[name]
    make_config, make_model, base = FAMILIES[family]
    model = make_model(make_config(**{**base, **overrides}))
    randomize(model, seed=1000 + index)
    model.tie_weights()
    # Rounded before anything is computed: the golden logits are those of the
    # stored weights, in float32.
    dtype = getattr(torch, saving.get("dtype", "float32"))
    with torch.no_grad():
        for param in model.parameters():
            param.copy_(param.to(dtype).float())
    freeze_rope(model)
    return model.float().eval(), dtype, saving


def old_rope_config(folder):
    """Rewrites rope_parameters as older transformers spelled it."""
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    parameters["type"] = parameters.pop("rope_type")
    config["rope_scaling"] = parameters
    with open(path, "w") as file:
        json.dump(config, file, indent=2)


def rename_prefix(folder, prefix):
    """Names tensors as checkpoints of the bare decoder do."""
    path = os.path.join(folder, "model.safetensors")
    tensors = safetensors.torch.load_file(path)
    renamed = {
        name.replace("model.decoder.", prefix, 1).replace(
            "transformer.", prefix, 1
        ): tensor
        for name, tensor in tensors.items()
    }
    safetensors.torch.save_file(renamed, path, metadata={"format": "pt"})


def save(model, dtype, saving, folder):
    # A copy: the conversion would round the rotary frequencies as well.
    copy.deepcopy(model).to(dtype).save_pretrained(
        folder, max_shard_size=saving.get("shard_bytes", 10**9)
    )
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
    if saving.get("old_rope"):
        old_rope_config(folder)
    if "prefix" in saving:
        rename_prefix(folder, saving["prefix"])


def continue_greedily(model, prompt):
    """The logits [NUM_STEPS, vocab] and tokens of greedy decoding, each step
    computed from all tokens anew, and the smallest gap of the two best."""
    tokens = list(prompt)
    rows, smallest = [], float("inf")
    with torch.no_grad():
        for _ in range(NUM_STEPS):
            ids = torch.tensor([tokens])
            logits = model(ids, attention_mask=torch.ones_like(ids)).logits
            row = logits[0, -1].float()
            best = torch.topk(row, 2).values
            smallest = min(smallest, (best[0] - best[1]).item())
            rows.append(row.numpy())
            tokens.append(int(row.argmax()))
    return np.stack(rows), tokens[len(prompt):], smallest


def router_gaps(model, tokens):
    """By how much each token's last expert was better than the next, in the
    router logits of the layer where that is least; None without experts."""
    if not getattr(model.config, "num_experts_per_tok", None):
        return None
    top_k = model.config.num_experts_per_tok
    with torch.no_grad():
        routers = model(
            torch.tensor([tokens]), output_router_logits=True
        ).router_logits
    gaps = []
    for logits in routers:
        best = logits.float().sort(dim=-1, descending=True).values
        gaps.append((best[:, top_k - 1] - best[:, top_k]).numpy())
    return np.stack(gaps).min(axis=0)


def routes_clearly(model, dtype, prompt, tokens):
    gaps = router_gaps(model, (prompt + tokens)[:-1])
    if gaps is None:
        return True
    at_kept = gaps[len(prompt) - 1 :: LOGITS_EVERY].min()
    return gaps.min() > ROUTER_GAP and (
        dtype == torch.float32 or at_kept > BF16_ROUTER_GAP
    )


def rounded_error(model, prompts, kept):
    """How far the logits of the same model computed by torch in bfloat16 are
    from those in float32, at most: what the format itself costs. The rotary
    table stays float32."""
    rounded = copy.deepcopy(model)
    for name, param in rounded.named_parameters():
        param.data = param.data.to(torch.bfloat16)
    largest = 0.0
    for prompt, rows in zip(prompts, kept):
        tokens = prompt["prompt"] + prompt["tokens"]
        with torch.no_grad():
            logits = rounded(torch.tensor([tokens])).logits[0].float().numpy()
        first = len(prompt["prompt"]) - 1
        steps = logits[first : first + NUM_STEPS : LOGITS_EVERY]
        largest = max(largest, float(np.abs(steps - rows).max()))
    return largest


def varied(tokens):
    return len(set(tokens)) >= 8


def make(name, index):
    model, dtype, saving = build(name, index)
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    for old in os.listdir(folder):
        os.remove(os.path.join(folder, old))
    save(model, dtype, saving, folder)
    generator = np.random.default_rng(index)
    prompts, kept = [], []
    for attempt in range(1000):
        length = PROMPT_LENGTHS[attempt % len(PROMPT_LENGTHS)]
        if any(len(p["prompt"]) == length for p in prompts):
            continue
        prompt = generator.integers(3, model.config.vocab_size, length).tolist()
        logits, tokens, gap = continue_greedily(model, prompt)
        if gap <= GAP or not varied(tokens):
            continue
        if not routes_clearly(model, dtype, prompt, tokens):
            continue
        prompts.append(dict(prompt=prompt, tokens=tokens, smallest_gap=gap))
        kept.append(logits[::LOGITS_EVERY])
        if len(prompts) == NUM_PROMPTS:
            break
    assert len(prompts) == NUM_PROMPTS, f"{name}: no prompts without ties"
    np.stack(kept).astype("<f4").tofile(os.path.join(folder, "logits.f32"))
    golden = dict(
        made_with=f"torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
        logits_every=LOGITS_EVERY,
        vocab_size=model.config.vocab_size,
        prompts=prompts,
    )
    if dtype == torch.bfloat16:
        golden["bf16_error"] = rounded_error(model, prompts, kept)
    with open(os.path.join(folder, "golden.json"), "w") as file:
        json.dump(golden, file)
        file.write("\n")
    size = sum(
        os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder)
    )
    spread = float(np.stack(kept).std())
    print(f"{name}: {size} bytes, logits deviate by {spread:.2f}, gaps "
          f"{min(p['smallest_gap'] for p in prompts):.4f}", flush=True)


def main():
    torch.set_num_threads(1)
    names = list(MODELS)
    for name in sys.argv[1:] or names:
        make(name, names.index(name))


if __name__ == "__main__":
    main()
