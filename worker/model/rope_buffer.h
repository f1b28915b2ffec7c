// SPDX-License-Identifier: Apache-2.0
#ifndef WORKER_MODEL_ROPE_BUFFER_H_
#define WORKER_MODEL_ROPE_BUFFER_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "common/model_config.h"
#include "kernels/backend.h"

namespace quire {

// The model's rope table on the device: [num_positions, config.rotary_dim].
absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadRopeTable(
    const ModelConfig& config, int32_t num_positions, Backend& backend);

}  // namespace quire

#endif  // WORKER_MODEL_ROPE_BUFFER_H_
