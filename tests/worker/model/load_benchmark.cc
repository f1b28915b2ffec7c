// SPDX-License-Identifier: Apache-2.0
//
// How long a worker takes to build a model: Llama-3.2-1B's shape in bfloat16,
// from dummy weights and from the folder in QUIRE_BENCH_MODEL, if set.
#include <cstdlib>
#include <memory>
#include <string>

#include "benchmark/benchmark.h"
#include "common/model_config.h"
#include "kernels/cpu/cpu_backend.h"
#include "worker/collective/local.h"
#include "worker/model/registry.h"
#include "worker/weights/open_weights.h"

namespace quire {
namespace {

constexpr char kLlama1B[] = R"({
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 16,
    "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
    "max_position_embeddings": 131072, "tie_word_embeddings": true})";

void Load(benchmark::State& state, const ModelConfig& config,
          const WeightOptions& options) {
  auto backend = CpuBackend::Create({.dtype = DType::kBf16});
  LocalGroup group(/*world_size=*/1);
  for (auto _ : state) {
    auto source = OpenWeights(options);
    auto model = source.ok()
                     ? CreateModel(config,
                                   {.max_num_batched_tokens = 2048,
                                    .max_num_seqs = 32,
                                    .max_model_len = 4096},
                                   **source, **backend, *group.collective(0))
                     : source.status();
    if (!model.ok()) {
      state.SkipWithError(std::string(model.status().message()).c_str());
      break;
    }
    state.counters["weight_bytes"] =
        static_cast<double>((*model)->weight_bytes());
    state.counters["activation_bytes"] =
        static_cast<double>((*model)->activation_bytes());
  }
}

void BM_LoadDummy1B(benchmark::State& state) {
  Load(state, *ModelConfig::FromJson(kLlama1B, ""), {.load_format = "dummy"});
}
BENCHMARK(BM_LoadDummy1B)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_LoadFolder(benchmark::State& state) {
  const char* folder = std::getenv("QUIRE_BENCH_MODEL");
  const auto config = ModelConfig::FromFolder(folder == nullptr ? "" : folder);
  if (!config.ok()) {
    state.SkipWithError("QUIRE_BENCH_MODEL is not a model folder");
    return;
  }
  Load(state, *config, {.folder = folder});
}
BENCHMARK(BM_LoadFolder)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace quire
