// SPDX-License-Identifier: Apache-2.0
//
// What tests of choices from shards of the vocabulary share: how it is cut, and
// what one device chooses from the same rows whole.
#ifndef TESTS_KERNELS_CUDA_SHARDED_CHOICE_H_
#define TESTS_KERNELS_CUDA_SHARDED_CHOICE_H_

#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "glog/logging.h"
#include "tests/kernels/cuda/choice_fixture.h"
#include "tests/kernels/cuda/shaped_choice_world.h"

namespace quire {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr int32_t kPoison = -77;

struct Tokens {
  std::vector<int32_t> by_row, by_slot;

  friend bool operator==(const Tokens&, const Tokens&) = default;
};

// A row, and what becomes of it whatever its filters are.
struct FixedRow {
  std::vector<float> logits;
  float temperature;
  int32_t outcome;  // a ChoiceError, or the only token
};

inline std::vector<FixedRow> FixedRows(int32_t num_vocab) {
  const std::vector<float> zeros(num_vocab, 0.0f);
  std::vector<FixedRow> rows;
  const auto add = [&](std::vector<float> logits, int32_t id, float logit,
                       float temperature, int32_t outcome) {
    logits[id] = logit;
    rows.push_back({std::move(logits), temperature, outcome});
  };
  for (const int32_t id : {0, num_vocab - 1}) {
    for (const float bad : {kNan, kInf}) {
      add(zeros, id, bad, 1, kLogitsNotFinite);
    }
  }
  const std::vector<float> none(num_vocab, -kInf);
  add(none, 0, -kInf, 1, kNoToken);
  for (const int32_t id : {3, num_vocab - 2}) {
    add(zeros, id, 1e36f, 1e-4f, kLogitsOverflow);
  }
  // One token in one shard.
  add(none, num_vocab - 679, -3, 1, num_vocab - 679);
  return rows;
}

// Sizes of shards.
using Cut = std::vector<int32_t>;

// Uneven ones, in which some are smaller than most top_k, and one is empty.
inline std::vector<Cut> CutsOf(int32_t num_vocab) {
  const auto rest = [&](Cut cut) {
    for (const int32_t size : Cut(cut)) cut[0] -= size;
    cut[0] += num_vocab;
    return cut;
  };
  return {{num_vocab},
          rest({0, num_vocab / 3}),
          rest({0, num_vocab / 2, num_vocab / 50}),
          rest({0, num_vocab / 7, 1, num_vocab / 5, 0, 30, num_vocab / 9, 47})};
}

class ShardedChoiceFixture : public ChoiceFixture {
 protected:
  static Tokens Fetch(const int32_t* tokens, const int32_t* by_slot,
                      int32_t num_rows) {
    Tokens got;
    got.by_row.resize(num_rows);
    got.by_slot.resize(num_rows);
    ToHost(tokens, &got.by_row);
    ToHost(by_slot, &got.by_slot);
    Synchronize();
    return got;
  }

  // From whole rows.
  static Tokens Whole(const World& world) {
    const std::vector<int32_t> poison(world.num_rows(), kPoison);
    ShapedChoiceParams p = {};
    p.logits = ToDevice(world.logits);
    p.num_vocab = world.num_vocab;
    p.rows = ToDevice(world.filtered);
    p.num_filtered = static_cast<int32_t>(world.filtered.size());
    p.tokens = ToDevice(poison);
    p.by_slot = ToDevice(poison);
    const absl::Status status = backend_->ChooseShaped(p);
    CHECK(status.ok()) << status;
    return Fetch(p.tokens, p.by_slot, world.num_rows());
  }

  // [rows, size] from column `first` on.
  static float* Columns(const World& world, int32_t first, int32_t size) {
    std::vector<float> columns;
    for (int32_t row = 0; row < world.num_rows(); ++row) {
      const auto begin =
          world.logits.begin() + int64_t{row} * world.num_vocab + first;
      columns.insert(columns.end(), begin, begin + size);
    }
    return ToDevice(columns);
  }
};

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_SHARDED_CHOICE_H_
