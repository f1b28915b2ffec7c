// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.h"

#include <utility>

namespace quire {
namespace {

// Where launching costs nothing, calling again is as good.
class CallAgain final : public Recording {
 public:
  explicit CallAgain(std::function<absl::Status()> enqueue)
      : enqueue_(std::move(enqueue)) {}
  absl::Status Call() const { return enqueue_(); }

 private:
  const std::function<absl::Status()> enqueue_;
};

}  // namespace

absl::Status Backend::GatedGemm(const GatedGemmParams& params) {
  const int64_t n = params.weight->n();
  const absl::Status multiplied = Gemm({.x = params.x,
                                        .x_stride = params.weight->k(),
                                        .weight = params.weight,
                                        .bias = nullptr,
                                        .y = params.products,
                                        .y_stride = n,
                                        .y_dtype = dtype(),
                                        .m = params.m,
                                        .norm_before = params.norm_before});
  if (!multiplied.ok()) return multiplied;
  return Activation({.kind = ActivationKind::kSiluMul,
                     .x = params.products,
                     .out = params.y,
                     .width = static_cast<int32_t>(n / 2),
                     .num_tokens = params.m});
}

absl::Status Backend::AttendNewTokens(const AttendNewTokensParams& params) {
  absl::Status status = RopeWriteKv(params.write);
  if (status.ok() && params.attention.sparse.first_positions != nullptr) {
    status = UpdateKeyBounds({.slot_mapping = params.write.slot_mapping,
                              .cache = params.write.cache,
                              .num_tokens = params.write.num_tokens});
  }
  return status.ok() ? Attention(params.attention) : status;
}

absl::StatusOr<std::unique_ptr<Recording>> Backend::Record(
    std::function<absl::Status()> enqueue) {
  return std::make_unique<CallAgain>(std::move(enqueue));
}

absl::Status Backend::Replay(Recording* recording) {
  return static_cast<CallAgain*>(recording)->Call();
}

}  // namespace quire
