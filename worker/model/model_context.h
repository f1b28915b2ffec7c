// SPDX-License-Identifier: Apache-2.0
#ifndef WORKER_MODEL_MODEL_CONTEXT_H_
#define WORKER_MODEL_MODEL_CONTEXT_H_

#include "common/model_config.h"
#include "kernels/backend.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"
#include "worker/weights/weight_loader.h"
#include "worker/weights/weight_source.h"

namespace quire {

// What a family builds its model from; all borrowed. The source is not needed
// once the model is built, the backend and the collective are.
struct ModelContext {
  const ModelConfig& config;
  const StepLimits& limits;
  WeightSource& source;
  Backend& backend;
  Collective& collective;
  LoadProgress progress;
};

}  // namespace quire

#endif  // WORKER_MODEL_MODEL_CONTEXT_H_
