// SPDX-License-Identifier: Apache-2.0
//
// A model inside this process: the coordinator's gateway and engine over the
// workers' own cores, without a socket.
//
//   LLM llm({.model = "/models/qwen3-8b"});
//   v1::SamplingParams sampling;
//   sampling.set_max_tokens(64);
//   for (const LLMResult& result : llm.Generate(prompts, sampling)) ...
#ifndef TOOLS_EMBEDDED_LLM_H_
#define TOOLS_EMBEDDED_LLM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/engine/engine_client.h"
#include "proto/inference.pb.h"
#include "proto/types.pb.h"

namespace quire {

// Named as the server's flags.
struct LLMOptions {
  std::string model;  // a Hugging Face folder
  std::string device = "cpu";
  int32_t num_threads =
      0;  // of each rank on the CPU; 0: its share of the cores
  int32_t tensor_parallel_size = 1;  // ranks, a thread each; on GPUs one
  std::string dtype = "auto";
  std::string load_format = "auto";
  int32_t max_model_len = 0;  // 0: what the model was trained for
  int32_t max_num_seqs = 128;
  int32_t max_num_batched_tokens = 2048;
  int32_t block_size = 16;
  double memory_utilization = 0.9;
  int32_t num_blocks_override = 0;  // 0: what the memory holds
  int64_t swap_space_bytes = 4LL << 30;
  bool enable_prefix_caching = true;
  uint64_t seed = 0;  // of seeds that requests leave open; 0: random
  // Bars on standard error, or lines where that is no terminal.
  bool show_progress = true;
};

// Whether some model could be run so: InvalidArgument names the option as the
// flag and says what it may be. Reads no files.
absl::Status CheckLLMOptions(const LLMOptions& options);

struct LLMAnswer {
  std::string text;
  std::vector<uint32_t> token_ids;
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  std::vector<v1::TokenLogprobs> logprobs;  // if they were asked for
};

struct LLMResult {
  // Of this request alone: as Generate's.
  absl::Status status;
  std::string request_id;
  std::vector<LLMAnswer> answers;  // [n]
  v1::Complete complete;
};

// Thread-safe. One per process and GPU.
class LLM final {
 public:
  // Loads the model. status() says whether that went well.
  explicit LLM(const LLMOptions& options);
  // Ends what runs.
  ~LLM();
  LLM(const LLM&) = delete;
  LLM& operator=(const LLM&) = delete;

  // Why nothing can be generated: a sentence for people, or OK.
  const absl::Status& status() const { return status_; }

  // Answers all prompts, as many at once as the engine takes, and returns when
  // the last is done. Results are in the order of the prompts.
  std::vector<LLMResult> Generate(const std::vector<std::string>& prompts,
                                  const v1::SamplingParams& sampling);
  std::vector<LLMResult> Generate(
      const std::vector<v1::GenerateRequest>& requests);

  // Begins a request. `done` is called once, from a thread of this object's:
  // it may start other requests, but not wait for them.
  void Start(const v1::GenerateRequest& request,
             std::function<void(LLMResult)> done);

  // Requests worth having started at once; more of them only wait.
  int32_t max_useful_requests() const { return max_useful_requests_; }
  // REQUIRES: status() is OK.
  EngineStats stats() const;

 private:
  class Impl;

  absl::Status status_;
  std::unique_ptr<Impl> impl_;
  const bool show_progress_;
  int32_t max_useful_requests_ = 1;
};

}  // namespace quire

#endif  // TOOLS_EMBEDDED_LLM_H_
