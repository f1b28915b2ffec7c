// SPDX-License-Identifier: Apache-2.0
//
// Rows of every kind of logits and parameters for shaped choices.
#ifndef TESTS_KERNELS_CUDA_SHAPED_CHOICE_WORLD_H_
#define TESTS_KERNELS_CUDA_SHAPED_CHOICE_WORLD_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "glog/logging.h"
#include "kernels/shaped_choice.h"

namespace quire {

// The arrays of a choice on the host; rows are slots.
struct World {
  explicit World(int32_t vocab) : num_vocab(vocab) {}

  int32_t num_vocab;
  std::vector<float> logits;
  std::vector<EditRow> edits;
  std::vector<TokenBias> biases;
  std::vector<int32_t> masked;
  std::vector<SeenToken> seen;  // [rows, stride]
  int64_t stride = 64;
  std::vector<ShapedRow> unfiltered, filtered;
  std::vector<uint32_t> allowed;
  std::vector<LogprobRow> logprob_rows;
  int32_t num_saved = 0;

  int32_t num_rows() const {
    return static_cast<int32_t>(logits.size() / num_vocab);
  }

  // A row of those logits, sampled plainly.
  ShapedRow AddRow(const std::vector<float>& row) {
    CHECK_EQ(row.size(), num_vocab);
    ShapedRow shaped = {};
    shaped.row = shaped.slot = num_rows();
    shaped.temperature = 1;
    shaped.top_p = 1;
    shaped.first_allowed = -1;
    logits.insert(logits.end(), row.begin(), row.end());
    seen.resize(num_rows() * stride);
    return shaped;
  }
  void Choose(const ShapedRow& row) {
    const bool is_filtered = row.temperature >= 1e-5f &&
                             (row.top_k > 0 || row.top_p < 1 || row.min_p > 0);
    (is_filtered ? filtered : unfiltered).push_back(row);
  }
  void SetSeen(int32_t row, const std::vector<SeenToken>& tokens) {
    CHECK_LT(tokens.size() + 1, stride);
    reinterpret_cast<SeenHeader&>(seen[row * stride]) = {
        static_cast<int32_t>(tokens.size()), 0};
    std::copy(tokens.begin(), tokens.end(), seen.begin() + row * stride + 1);
  }
};

// Logits of many shapes: peaked, flat, with ties, with holes, in order.
inline std::vector<float> RandomLogits(int32_t num_vocab, int kind,
                                       std::mt19937_64* random) {
  std::vector<float> row(num_vocab);
  std::normal_distribution<float> normal(0, kind % 3 == 1 ? 1.0f : 4.0f);
  for (float& logit : row) {
    logit = normal(*random);
    if (kind == 2) logit = std::round(logit);
    if (kind == 3 && (*random)() % 3 == 0)
      logit = -std::numeric_limits<float>::infinity();
  }
  if (kind == 4) std::sort(row.begin(), row.end());
  if (kind == 5) std::fill(row.begin(), row.end(), 0.25f);
  if (std::all_of(row.begin(), row.end(), [](float x) {
        return x == -std::numeric_limits<float>::infinity();
      })) {
    row[0] = 0;
  }
  return row;
}

// Gives the row lists and penalties as `random` likes.
inline void AddEdit(const ShapedRow& shaped, std::mt19937_64* random,
                    bool keeps_raw, World* w) {
  const int32_t row = shaped.row;
  const auto id = [&] {
    return static_cast<int32_t>((*random)() % w->num_vocab);
  };
  EditRow edit = {};
  edit.row = edit.slot = row;
  edit.first_allowed = shaped.first_allowed;
  edit.num_allowed_words = shaped.num_allowed_words;
  edit.first_bias = static_cast<int32_t>(w->biases.size());
  edit.first_masked = static_cast<int32_t>(w->masked.size());
  if ((*random)() % 2 == 0) {
    const int32_t first = id();
    for (int32_t i = first; i < std::min(first + 9, w->num_vocab); ++i) {
      w->biases.push_back({i, static_cast<float>((*random)() % 9) - 4});
      ++edit.num_biases;
    }
  }
  for (int i = 0; i < 4; ++i) {
    w->masked.push_back(id());
    ++edit.num_masked;
  }
  edit.repetition_penalty = 1;
  if ((*random)() % 3 > 0) {
    edit.is_penalised = 1;
    edit.repetition_penalty = 0.7f + ((*random)() % 8) / 8.0f;
    edit.frequency_penalty = static_cast<float>((*random)() % 5) / 4 - 0.5f;
    edit.presence_penalty = static_cast<float>((*random)() % 3) / 2;
    std::vector<SeenToken> seen;
    for (int i = 0; i < 20; ++i) {
      const int32_t token = id();
      const auto is_it = [&](const SeenToken& s) {
        return s.token_id == token;
      };
      if (std::any_of(seen.begin(), seen.end(), is_it)) continue;
      seen.push_back({token, static_cast<int32_t>((*random)() % 3)});
    }
    w->SetSeen(row, seen);
  }
  edit.first_saved = -1;
  if (keeps_raw) {
    edit.first_saved = w->num_saved;
    w->num_saved += edit.num_biases + edit.num_masked + 20;
  }
  w->edits.push_back(edit);
}

// Rows of every kind of parameters.
inline World MixedWorld(int32_t num_vocab, int32_t num_rows, uint64_t seed) {
  World world(num_vocab);
  std::mt19937_64 random(seed);
  const int32_t words = (num_vocab + 31) / 32;
  for (int32_t i = 0; i < num_rows; ++i) {
    ShapedRow row = world.AddRow(RandomLogits(num_vocab, i % 6, &random));
    row.seed = random();
    row.position = static_cast<int32_t>(random() % 100000);
    row.temperature = (random() % 5) * 0.45f;
    if (random() % 2 == 0) {
      const int32_t choices[] = {1, 2, 50, 1000, 1024, 1025, 3000, 200000};
      row.top_k = choices[random() % 8];
    }
    if (random() % 2 == 0) row.top_p = 0.05f + (random() % 19) * 0.05f;
    if (random() % 3 == 0) row.min_p = 0.001f * (random() % 300 + 1);
    if (random() % 4 == 0) {
      row.first_allowed = static_cast<int32_t>(world.allowed.size());
      row.num_allowed_words = 1 + static_cast<int32_t>(random() % words);
      for (int32_t word = 0; word < row.num_allowed_words; ++word) {
        world.allowed.push_back(static_cast<uint32_t>(random()) | 1);
      }
    }
    const bool wants_logprobs = random() % 3 == 0;
    if (random() % 2 == 0) AddEdit(row, &random, wants_logprobs, &world);
    if (wants_logprobs) {
      world.logprob_rows.push_back({i, static_cast<int32_t>(random() % 33)});
    }
    world.Choose(row);
  }
  return world;
}

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_SHAPED_CHOICE_WORLD_H_
