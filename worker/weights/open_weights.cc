// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/open_weights.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/weights/checkpoint.h"
#include "worker/weights/checkpoint_source.h"
#include "worker/weights/dummy_source.h"

namespace quire {

absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(
    const WeightOptions& options) {
  if (options.load_format == "dummy") {
    return std::make_unique<DummySource>(options.seed);
  }
  if (options.load_format != "auto" && options.load_format != "safetensors") {
    return absl::InvalidArgumentError(
        absl::StrCat("--load_format is \"", options.load_format,
                     "\", expected one of: auto, safetensors, dummy"));
  }
  QUIRE_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(options.folder));
  return std::make_unique<CheckpointSource>(std::move(checkpoint));
}

}  // namespace quire
