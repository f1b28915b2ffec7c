// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile_choice.h"

#include <fstream>
#include <limits>
#include <memory>
#include <sstream>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/backend.h"
#include "kernels/cuda/product_timer.h"

namespace quire {
namespace {

// Alone, tiles may take so much longer: in a model they begin while the kernel
// before ends, as the library's do not.
constexpr float kEarlyStart = 1.02f;

}  // namespace

TileChoice::TileChoice(const LtGemmOptions& options,
                       const std::string& signature, cudaStream_t stream,
                       Run library, Run tiles)
    : options_(options),
      signature_(absl::StrCat(signature, "/tiles")),
      stream_(stream),
      library_(std::move(library)),
      tiles_(std::move(tiles)) {
  ReadCache();
}

// A line: signature and key, and 1 if tiles are faster.
void TileChoice::ReadCache() {
  if (options_.cache_path.empty()) return;
  std::ifstream file(options_.cache_path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string signature;
    int64_t n, k, bucket;
    int dtype, y_dtype, extras, has_tiles;
    if (fields >> signature >> n >> k >> bucket >> dtype >> y_dtype >> extras >>
            has_tiles &&
        signature == signature_) {
      has_tiles_[GemmKey(n, k, bucket, dtype, y_dtype, extras)] =
          has_tiles != 0;
    }
  }
}

void TileChoice::AppendToCache(const GemmKey& key, bool has_tiles) {
  if (options_.cache_path.empty()) return;
  const auto& [n, k, bucket, dtype, y_dtype, extras] = key;
  std::ofstream file(options_.cache_path, std::ios::app);
  file << absl::StrCat(signature_, " ", n, " ", k, " ", bucket, " ", dtype, " ",
                       y_dtype, " ", extras, " ", has_tiles ? 1 : 0, "\n")
       << std::flush;
  if (!file) {
    LOG(WARNING) << "cannot keep the choice of a product in "
                 << options_.cache_path;
    options_.cache_path.clear();
  }
}

absl::StatusOr<bool> TileChoice::Time(const PlainGemmParams& params) {
  std::unique_ptr<DeviceBuffer> elsewhere;
  QUIRE_ASSIGN_OR_RETURN(const PlainGemmParams trial,
                         TrialOf(params, &elsewhere));
  QUIRE_ASSIGN_OR_RETURN(const auto timer, ProductTimer::Create(stream_));
  constexpr float kPatient = std::numeric_limits<float>::infinity();
  const absl::StatusOr<float> library =
      timer->Time([&] { return library_(trial); }, kPatient);
  if (absl::IsUnimplemented(library.status())) return true;
  QUIRE_RETURN_IF_ERROR(library.status());
  QUIRE_ASSIGN_OR_RETURN(
      const float tiles,
      timer->Time([&] { return tiles_(trial); }, *library * kEarlyStart));
  return tiles <= *library * kEarlyStart;
}

absl::StatusOr<bool> TileChoice::AreTilesFaster(const PlainGemmParams& params) {
  const GemmKey key = GemmKeyOf(params);
  const auto it = has_tiles_.find(key);
  if (it != has_tiles_.end()) return it->second;
  if (!options_.is_tuned || ProductTimer::IsCapturing(stream_)) return false;
  const absl::StatusOr<bool> timed = Time(params);
  // No room to time in: another time, perhaps.
  if (absl::IsResourceExhausted(timed.status())) return false;
  QUIRE_ASSIGN_OR_RETURN(const bool has_tiles, timed);
  has_tiles_[key] = has_tiles;
  AppendToCache(key, has_tiles);
  return has_tiles;
}

}  // namespace quire
