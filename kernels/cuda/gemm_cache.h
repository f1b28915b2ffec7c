// SPDX-License-Identifier: Apache-2.0
//
// Which algorithm or kernel was the fastest for a product, kept in a file for
// the next process. Lines, of words between spaces:
//
//   SIGNATURE n k bucket dtype y_dtype extras CHOICE...
//
// A signature says who chose, of what and on which device; CHOICE are its words
// in hexadecimal.
#ifndef KERNELS_CUDA_GEMM_CACHE_H_
#define KERNELS_CUDA_GEMM_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/types/span.h"

namespace quire {

// n, k, bucket of m (0: any), dtype, y_dtype, 1 with bias and 2 more if the
// product is added, 4 more if it is alike on all ranks, 8 more if gated.
using GemmKey = std::tuple<int64_t, int64_t, int64_t, int, int, int>;

// The device that choices are good for, as the first words of a signature.
// Devices of one name may differ in their number of multiprocessors (a slice of
// one, or what a vendor leaves of it), and what is fastest with it.
std::string GemmDevice(const std::string& name, int num_multiprocessors);

// Thread-compatible. Several processes and objects may share a file: a line is
// appended at once.
class GemmCache {
 public:
  // Reads the lines of `signature`, a word, that are whole and have `num_words`
  // of choice; the last counts. `path` may be empty, or of no file yet.
  GemmCache(const std::string& path, const std::string& signature,
            size_t num_words);

  // The words chosen for `key`, [num_words]; none if nothing was. Until the
  // next Keep.
  absl::Span<const uint64_t> Find(const GemmKey& key) const;

  // Remembers a choice and appends it to the file. Where that is impossible,
  // logs so once. REQUIRES: `choice` has num_words.
  void Keep(const GemmKey& key, absl::Span<const uint64_t> choice);

 private:
  void Read();
  // Whether it could.
  bool Append(const std::string& line) const;

  std::string path_;  // empty: keeps nothing
  const std::string signature_;
  const size_t num_words_;
  std::map<GemmKey, std::vector<uint64_t>> choices_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_GEMM_CACHE_H_
