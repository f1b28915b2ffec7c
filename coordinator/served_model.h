// SPDX-License-Identifier: Apache-2.0
//
// What an engine's front end reads from a model folder before it serves it:
// everything but the weights.
#ifndef COORDINATOR_SERVED_MODEL_H_
#define COORDINATOR_SERVED_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/model_config.h"
#include "common/text/tokenizer.h"
#include "coordinator/engine/engine_options.h"
#include "coordinator/gateway/grammar_source.h"
#include "coordinator/gateway/validation.h"

namespace quire {

struct ServedModelOptions {
  std::string folder;
  std::string served_model_name;  // "": the folder's name
  bool skip_tokenizer_init = false;
  int32_t tensor_parallel_size = 1;
  int32_t max_model_len = 0;  // 0: what the model was trained for
};

struct ServedModel {
  std::string name;
  ModelConfig config;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<GrammarSource> grammars;  // null without a tokenizer
  int32_t max_model_len = 0;
  ModelLimits limits;
};

// NotFound, InvalidArgument and Unimplemented concern the folder; OutOfRange an
// option that this model does not allow, by its flag's name. Messages are one
// line for the user.
absl::StatusOr<ServedModel> OpenServedModel(const ServedModelOptions& options);

// Sets what the model decides: its window, and where its attention ends.
void FitEngineToModel(const ServedModel& model, EngineOptions* engine);

}  // namespace quire

#endif  // COORDINATOR_SERVED_MODEL_H_
