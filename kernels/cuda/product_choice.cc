// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/product_choice.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/status_macros.h"
#include "kernels/backend.h"
#include "kernels/cuda/own_product.h"
#include "kernels/cuda/product_timer.h"

namespace quire {
namespace {

// Alone, our own kernels may take so much longer: in a model they begin while
// the kernel before ends, as the library's do not.
constexpr float kEarlyStart = 1.02f;
// In turns, all run at one clock. In a model, products of many rows run at the
// power limit, where those that draw less get a higher clock: on an H200, tiles
// in mixed clusters took 0.91 to 1.02 of the time of pairs in turns, of 512 to
// 1,920 rows, and 0.96 to 0.98 under sustained load.
constexpr float kSavedPower = 1.03f;

float AllowanceOf(ProductKernel kernel) {
  if (kernel == ProductKernel::kLibrary) return 1.0f;
  if (kernel == ProductKernel::kMixedTiles) return kEarlyStart * kSavedPower;
  return kEarlyStart;
}

}  // namespace

ProductChoice::ProductChoice(const LtGemmOptions& options,
                             const std::string& signature, cudaStream_t stream,
                             std::vector<Candidate> candidates)
    : is_tuned_(options.is_tuned),
      stream_(stream),
      candidates_(std::move(candidates)),
      fastest_(options.cache_path,
               absl::StrCat(signature, "/own", kOwnProductsVersion),
               /*num_words=*/1) {}

std::optional<ProductKernel> ProductChoice::Find(
    const PlainGemmParams& params) const {
  const absl::Span<const uint64_t> number = fastest_.Find(GemmKeyOf(params));
  if (number.empty()) return std::nullopt;
  for (const Candidate& candidate : candidates_) {
    if (static_cast<uint64_t>(candidate.kernel) == number[0] &&
        candidate.can_run(params)) {
      return candidate.kernel;
    }
  }
  return std::nullopt;
}

absl::StatusOr<ProductKernel> ProductChoice::Time(
    const PlainGemmParams& params,
    const std::vector<const Candidate*>& candidates) {
  std::unique_ptr<DeviceBuffer> elsewhere;
  QUIRE_ASSIGN_OR_RETURN(const PlainGemmParams trial,
                         TrialOf(params, &elsewhere));
  std::vector<ProductTimer::Trial> trials;
  for (const Candidate* candidate : candidates) {
    trials.push_back({[=, &trial] { return candidate->run(trial); },
                      AllowanceOf(candidate->kernel)});
  }
  QUIRE_ASSIGN_OR_RETURN(const auto timer, ProductTimer::Create(stream_));
  QUIRE_ASSIGN_OR_RETURN(const size_t fastest, timer->FastestOf(trials));
  return candidates[fastest]->kernel;
}

absl::StatusOr<ProductKernel> ProductChoice::FastestOf(
    const PlainGemmParams& params) {
  if (const auto chosen = Find(params)) return *chosen;
  std::vector<const Candidate*> candidates;
  for (const Candidate& candidate : candidates_) {
    if (candidate.can_run(params)) candidates.push_back(&candidate);
  }
  if (candidates.empty()) return absl::UnimplementedError("no product");
  const ProductKernel first = candidates.front()->kernel;
  if (candidates.size() == 1) return first;
  if (!is_tuned_ || ProductTimer::IsCapturing(stream_)) return first;
  const absl::StatusOr<ProductKernel> timed = Time(params, candidates);
  // No room to time in: another time, perhaps.
  if (absl::IsResourceExhausted(timed.status())) return first;
  QUIRE_ASSIGN_OR_RETURN(const ProductKernel fastest, timed);
  fastest_.Keep(GemmKeyOf(params), {static_cast<uint64_t>(fastest)});
  return fastest;
}

}  // namespace quire
