// SPDX-License-Identifier: Apache-2.0
//
// The weight source that --load_format names.
#ifndef WORKER_WEIGHTS_OPEN_WEIGHTS_H_
#define WORKER_WEIGHTS_OPEN_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/weights/weight_source.h"

namespace quire {

struct WeightOptions {
  std::string folder = {};
  // "auto" and "safetensors" read the folder; "dummy" makes random weights.
  std::string load_format = "auto";
  uint64_t seed = 0;  // of the random weights
};

// NotFound and InvalidArgument as Checkpoint::Open(); InvalidArgument lists the
// load formats.
absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(
    const WeightOptions& options);

}  // namespace quire

#endif  // WORKER_WEIGHTS_OPEN_WEIGHTS_H_
