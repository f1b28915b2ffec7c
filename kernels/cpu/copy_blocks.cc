// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/copy_blocks.h"

#include <algorithm>
#include <cstring>

namespace quire {
namespace {

constexpr int64_t kPieceBytes = 256 << 10;

}  // namespace

void CopyBlocksCpu(const BlockCopyParams& params, const ThreadTeam& team) {
  const int64_t bytes = params.block_bytes;
  const int64_t pieces = (bytes + kPieceBytes - 1) / kPieceBytes;
  team.For(
      params.num_pairs * pieces, /*grain=*/1,
      [&](int, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const BlockPair pair = params.pairs[i / pieces];
          const int64_t offset = i % pieces * kPieceBytes;
          std::memcpy(
              static_cast<char*>(params.dst) + pair.dst * bytes + offset,
              static_cast<const char*>(params.src) + pair.src * bytes + offset,
              std::min(kPieceBytes, bytes - offset));
        }
      });
}

}  // namespace quire
