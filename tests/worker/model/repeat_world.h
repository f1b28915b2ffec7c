// SPDX-License-Identifier: Apache-2.0
//
// Sequences that a model computes beside each other more than once: their keys
// and values tell more than tokens, which small differences seldom change.
#ifndef TESTS_WORKER_MODEL_REPEAT_WORLD_H_
#define TESTS_WORKER_MODEL_REPEAT_WORLD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/model_config.h"
#include "kernels/backend.h"
#include "kernels/kv_layout.h"
#include "worker/collective/local.h"
#include "worker/model/model.h"

namespace quire {

struct RepeatSize {
  int32_t num_sequences;
  int32_t num_blocks;     // of a sequence, all filled in the end
  int32_t prompt_tokens;  // of a sequence, computed in the first step
};

// A cache's bytes, as the host sees them.
using CacheBytes = std::vector<uint8_t>;

// A model of random weights.
class RepeatWorld {
 public:
  static constexpr int32_t kBlockSize = 16;

  // REQUIRES: size.prompt_tokens <= size.num_blocks * kBlockSize.
  RepeatWorld(const ModelConfig& config, std::unique_ptr<Backend> backend,
              const RepeatSize& size);

  const KvLayout& layout() const { return layout_; }
  void set_order(KvOrder order) { layout_.order = order; }

  // Computes all sequences in steps that each has a part of: its prompt, then
  // token by token. Which tokens they are is the same each time. Their order in
  // the steps, and the garbage that the cache holds before, follow from `seed`.
  CacheBytes Compute(uint32_t seed);

  // Of each sequence whose keys and values are not the same in both, the first
  // token, that token's first layer, and how many bytes there; or nothing.
  std::string Differences(const CacheBytes& a, const CacheBytes& b) const;

  // Where a token's key begins, in bytes.
  int64_t KeyOffset(int32_t sequence, int32_t token, int32_t layer) const;

 private:
  // A step's input, as indices into a list of all steps'.
  struct Step {
    int32_t begin, end;  // positions of each sequence
    int64_t tokens = 0, positions = 0, places = 0, starts = 0, lengths = 0;
  };
  Step Describe(const std::vector<int32_t>& order, int32_t begin, int32_t end,
                std::vector<int32_t>* list) const;
  // `list` begins with the order of the sequences.
  void RunStep(const Step& step, const int32_t* list, void* cache);
  std::unique_ptr<DeviceBuffer> Upload(const std::vector<int32_t>& list);
  std::unique_ptr<DeviceBuffer> Garbage(uint32_t seed);
  int32_t BlockOf(int32_t sequence, int32_t token) const;
  // Of a token's keys and values in one layer.
  int32_t DifferentBytes(const CacheBytes& a, const CacheBytes& b,
                         int32_t sequence, int32_t token, int32_t layer) const;

  const RepeatSize size_;
  const int32_t length_;  // tokens of a sequence
  const int32_t num_vocab_;
  LocalGroup group_{1};
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  KvLayout layout_;
  std::vector<int32_t> tables_;
  std::unique_ptr<DeviceBuffer> tables_copy_;
};

}  // namespace quire

#endif  // TESTS_WORKER_MODEL_REPEAT_WORLD_H_
