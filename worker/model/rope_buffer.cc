// SPDX-License-Identifier: Apache-2.0
#include "worker/model/rope_buffer.h"

#include <vector>

#include "common/status_macros.h"
#include "worker/model/rope_table.h"

namespace quire {

absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadRopeTable(
    const ModelConfig& config, int32_t num_positions, Backend& backend) {
  const std::vector<float> table =
      MakeRopeTable(config.rope, config.rotary_dim, num_positions);
  const int64_t bytes = static_cast<int64_t>(table.size() * sizeof(float));
  QUIRE_ASSIGN_OR_RETURN(auto buffer, backend.Allocate(bytes));
  QUIRE_RETURN_IF_ERROR(
      backend.CopyToDevice(table.data(), buffer->data(), bytes));
  QUIRE_RETURN_IF_ERROR(backend.Synchronize());
  return buffer;
}

}  // namespace quire
