// SPDX-License-Identifier: Apache-2.0
//
// Whatever bytes stand in config.json, they are read or refused in one line,
// and what was read is a model that could be built. Behind a zero byte comes
// generation_config.json.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "common/model_config.h"
#include "glog/logging.h"
#include "worker/model/rope_table.h"

namespace quire {
namespace {

void CheckConfig(const ModelConfig& config) {
  CHECK_GT(config.num_layers, 0);
  CHECK_GT(config.hidden_size, 0);
  CHECK_GT(config.head_dim, 0);
  CHECK_GT(config.vocab_size, 0);
  CHECK_GT(config.max_position, 0);
  CHECK_GT(config.num_kv_heads, 0);
  CHECK_EQ(config.num_q_heads % config.num_kv_heads, 0);
  CHECK_GE(config.q_size(), config.kv_size());
  CHECK_EQ(config.rotary_dim % 2, 0);
  CHECK_LE(config.rotary_dim, config.head_dim);
  if (!config.layer_windows.empty()) {
    CHECK_EQ(config.layer_windows.size(), config.num_layers);
  }
  for (TokenId id : config.eos_token_ids) {
    CHECK(id >= 0 && id < config.vocab_size) << id;
  }
  CHECK(config.CheckTensorParallel(1).ok());
  const MoeConfig& moe = config.moe;
  CHECK(moe.num_experts == 0 ||
        (moe.top_k > 0 && moe.top_k <= moe.num_experts &&
         moe.intermediate_size > 0 &&
         moe.dense_layers.size() == config.num_layers));
  CHECK_GE(config.max_scaled_position, config.max_position);
  if (!config.use_rope) return;
  CHECK(std::isfinite(config.rope.attention_factor));
  for (double frequency : RopeFrequencies(config.rope, config.rotary_dim,
                                          config.max_scaled_position)) {
    CHECK(std::isfinite(frequency) && frequency > 0) << frequency;
  }
}

}  // namespace
}  // namespace quire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(text.find('\0'), text.size());
  const auto config = quire::ModelConfig::FromJson(
      text.substr(0, zero), text.substr(std::min(zero + 1, text.size())));
  if (config.ok()) {
    quire::CheckConfig(*config);
  } else {
    const absl::string_view message = config.status().message();
    CHECK(!message.empty());
    CHECK_EQ(message.find('\n'), absl::string_view::npos) << message;
  }
  return 0;
}
