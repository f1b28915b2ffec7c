// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/product_choice.h"

#include <cstddef>
#include <fstream>
#include <memory>
#include <sstream>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/backend.h"
#include "kernels/cuda/own_product.h"
#include "kernels/cuda/product_timer.h"

namespace quire {
namespace {

// Alone, our own kernels may take so much longer: in a model they begin while
// the kernel before ends, as the library's do not.
constexpr float kEarlyStart = 1.02f;

float AllowanceOf(ProductKernel kernel) {
  return kernel == ProductKernel::kLibrary ? 1.0f : kEarlyStart;
}

}  // namespace

ProductChoice::ProductChoice(const LtGemmOptions& options,
                             const std::string& signature, cudaStream_t stream,
                             std::vector<Candidate> candidates)
    : options_(options),
      signature_(absl::StrCat(signature, "/own", kOwnProductsVersion)),
      stream_(stream),
      candidates_(std::move(candidates)) {
  ReadCache();
}

// A line: signature and key, and the kernel's number.
void ProductChoice::ReadCache() {
  if (options_.cache_path.empty()) return;
  std::ifstream file(options_.cache_path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string signature;
    int64_t n, k, bucket;
    int dtype, y_dtype, extras, number;
    if (!(fields >> signature >> n >> k >> bucket >> dtype >> y_dtype >>
          extras >> number) ||
        signature != signature_) {
      continue;
    }
    for (const Candidate& candidate : candidates_) {
      if (static_cast<int>(candidate.kernel) != number) continue;
      fastest_[GemmKey(n, k, bucket, dtype, y_dtype, extras)] =
          candidate.kernel;
    }
  }
}

void ProductChoice::AppendToCache(const GemmKey& key, ProductKernel kernel) {
  if (options_.cache_path.empty()) return;
  const auto& [n, k, bucket, dtype, y_dtype, extras] = key;
  std::ofstream file(options_.cache_path, std::ios::app);
  file << absl::StrCat(signature_, " ", n, " ", k, " ", bucket, " ", dtype, " ",
                       y_dtype, " ", extras, " ", static_cast<int>(kernel),
                       "\n")
       << std::flush;
  if (!file) {
    LOG(WARNING) << "cannot keep the choice of a product in "
                 << options_.cache_path;
    options_.cache_path.clear();
  }
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
  const GemmKey key = GemmKeyOf(params);
  const auto it = fastest_.find(key);
  if (it != fastest_.end()) return it->second;
  std::vector<const Candidate*> candidates;
  for (const Candidate& candidate : candidates_) {
    if (candidate.can_run(params)) candidates.push_back(&candidate);
  }
  if (candidates.empty()) return absl::UnimplementedError("no product");
  const ProductKernel first = candidates.front()->kernel;
  if (candidates.size() == 1) return first;
  if (!options_.is_tuned || ProductTimer::IsCapturing(stream_)) return first;
  const absl::StatusOr<ProductKernel> timed = Time(params, candidates);
  // No room to time in: another time, perhaps.
  if (absl::IsResourceExhausted(timed.status())) return first;
  QUIRE_ASSIGN_OR_RETURN(const ProductKernel fastest, timed);
  fastest_[key] = fastest;
  AppendToCache(key, fastest);
  return fastest;
}

}  // namespace quire
