// SPDX-License-Identifier: Apache-2.0
//
// From a config to the model that it describes.
#ifndef WORKER_MODEL_REGISTRY_H_
#define WORKER_MODEL_REGISTRY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "common/model_config.h"
#include "kernels/backend.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"
#include "worker/weights/weight_loader.h"
#include "worker/weights/weight_source.h"

namespace quire {

// Builds this rank's part of a model and loads its weights; the ranks need not
// wait for each other. `source` may go away afterwards, `backend` and
// `collective` must outlive the model. InvalidArgument: the ranks cannot share
// the model evenly, the limits are beyond the model's positions, or the weights
// do not fit the config. ResourceExhausted: not enough device memory.
absl::StatusOr<std::unique_ptr<Model>> CreateModel(
    const ModelConfig& config, const StepLimits& limits, WeightSource& source,
    Backend& backend, Collective& collective, LoadProgress progress = nullptr);

}  // namespace quire

#endif  // WORKER_MODEL_REGISTRY_H_
