// SPDX-License-Identifier: Apache-2.0
//
// A group of one rank.
#ifndef WORKER_COLLECTIVE_SOLO_H_
#define WORKER_COLLECTIVE_SOLO_H_

#include "worker/collective/collective.h"

namespace quire {

class SoloCollective final : public Collective {
 public:
  int32_t rank() const override { return 0; }
  int32_t world_size() const override { return 1; }
  absl::Status AllReduceSum(void*, int64_t, DType) override {
    return absl::OkStatus();
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes) override;
  absl::Status Barrier() override { return absl::OkStatus(); }
};

}  // namespace quire

#endif  // WORKER_COLLECTIVE_SOLO_H_
