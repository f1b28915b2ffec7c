// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_plan.h"

namespace quire {
namespace {

using attention::AttentionPlan;
using attention::AttentionPlanHeader;
using attention::AttentionUnit;
using attention::kMaxDecodeTokens;
using attention::kMmaRows;
using attention::kPrefillRows;
using attention::PrefillTile;

// Where states lie is the same for all steps, as they are empty between
// launches. With a head dim of 128 and 8 KV heads of 4 query heads each, there
// is room for 3,800 splits and nodes, half of either; sequences beyond are not
// split.
constexpr int64_t kStateBytes = kAttentionStateBytes;
constexpr int32_t kMaxSlots = 1 << 16;  // of states, whichever their size
constexpr int64_t kAlignment = 256;

constexpr int64_t Align(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Hands out parts of the workspace, or only counts.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}

  template <typename T>
  T* Take(int64_t count) {
    T* const taken = reinterpret_cast<T*>(base_ + used_);
    used_ += Align(count * int64_t{sizeof(T)});
    return taken;
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// Division by a constant as multiplication (Granlund and Montgomery, PLDI'94),
// right for numerators below 2^31.
void SetBlockDivision(int32_t block_size, AttentionPlan* plan) {
  int32_t bits = 0;  // ceil(log2(block_size))
  while ((int64_t{1} << bits) < block_size) ++bits;
  const uint64_t power = uint64_t{1} << (31 + bits);
  plan->block_factor =
      static_cast<uint32_t>((power + block_size - 1) / block_size);
  plan->block_shift = bits - 1;
}

struct StepSize {
  int32_t num_tokens;
  int32_t num_seqs;
  int32_t group;
  int32_t head_dim;
  int32_t num_sms;
};

int64_t MaxDecodeTiles(const StepSize& size) {
  const int64_t tokens = std::min<int64_t>(
      size.num_tokens, int64_t{size.num_seqs} * kMaxDecodeTokens);
  return tokens * ((size.group + kMmaRows - 1) / kMmaRows);
}

int64_t MaxPrefillTiles(const StepSize& size) {
  const int64_t rounding = int64_t{size.num_seqs} * (kPrefillRows - 1);
  return (int64_t{size.num_tokens} * size.group + rounding) / kPrefillRows;
}

// All but the states.
AttentionPlan TakeRest(const StepSize& size, Arena* arena) {
  AttentionPlan plan = {};
  plan.decode_rows = std::min(size.group, kMmaRows);
  plan.state_floats =
      plan.decode_rows * attention::LeftRowFloats(size.head_dim);
  plan.num_pairs = size.num_sms * attention::DecodePairsPerSm();
  plan.num_blocks = size.num_sms;
  plan.max_decode_tokens = kMaxDecodeTokens;
  plan.header = arena->Take<AttentionPlanHeader>(1);
  plan.decode_starts = arena->Take<int32_t>(size.num_seqs + 1);
  plan.prefill_starts = arena->Take<int32_t>(size.num_seqs + 1);
  plan.rows = arena->Take<AttentionUnit>(MaxDecodeTiles(size));
  plan.fold_capacity = static_cast<int32_t>(MaxDecodeTiles(size));
  plan.folds = arena->Take<int32_t>(plan.fold_capacity);
  plan.tiles = arena->Take<PrefillTile>(MaxPrefillTiles(size));
  plan.unit_capacity = static_cast<int32_t>(MaxDecodeTiles(size)) + kMaxSlots;
  plan.units = arena->Take<AttentionUnit>(plan.unit_capacity);
  plan.warp_states =
      arena->Take<float>(int64_t{plan.num_pairs} * 2 * plan.state_floats);
  plan.block_states = arena->Take<float>(int64_t{plan.num_blocks} * 2 *
                                         kPrefillRows * (size.head_dim + 4));
  return plan;
}

int64_t RestBytes(const StepSize& size) {
  Arena arena(nullptr);
  TakeRest(size, &arena);
  return arena.used();
}

// Cuts the workspace into the parts of the plan; false if it is too small.
bool LayPlan(const StepSize& size, int32_t num_kv_heads,
             const AttentionCudaOptions& options, AttentionPlan* plan) {
  const int64_t left = options.workspace_bytes - RestBytes(size);
  if (left < 0) return false;
  Arena arena(options.workspace);
  float* const states = arena.Take<float>(
      std::min(kStateBytes, left / kAlignment * kAlignment) / 4);
  const int64_t state_bytes = arena.used();
  *plan = TakeRest(size, &arena);
  // Long contexts that are not split need as many nodes as short ones that are
  // need leaves.
  const int64_t slot_floats = int64_t{num_kv_heads} * plan->state_floats;
  const auto slots = static_cast<int32_t>(
      std::min<int64_t>(state_bytes / 4 / slot_floats, kMaxSlots));
  plan->node_capacity = slots / 2;
  plan->leaf_capacity = slots - plan->node_capacity;
  plan->node_states = states;
  plan->leaf_states = states + plan->node_capacity * slot_floats;
  return true;
}

// Blocks of decodes wait for each other, so all have to fit at once.
int32_t NumSms(const AttentionCudaOptions& options) {
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) !=
          cudaSuccess) {
    return options.num_sms;
  }
  return std::min(options.num_sms, count);
}

// The cache is counted in rows of head_dim elements, by 32 bits: 1 TiB where
// they are of 128.
bool IsCountedInRows(const KvCacheView& cache) {
  const int64_t stride = cache.layout.BlockStride();
  return stride % cache.layout.head_dim == 0 &&
         cache.num_blocks * (stride / cache.layout.head_dim) < UINT32_MAX;
}

bool HasTensorCoreKernel(const KvCacheView& cache) {
  const int32_t d = cache.layout.head_dim;
  return cache.layout.dtype == DType::kBf16 &&
         (d == 64 || d == 80 || d == 96 || d == 128 || d == 256) &&
         IsCountedInRows(cache);
}

}  // namespace

KvOrder AttentionCudaOrder(const KvLayout& layout) {
  const int32_t d = layout.head_dim;
  const bool has_tiles = layout.dtype == DType::kBf16 &&
                         (d == 64 || d == 128 || d == 256) &&
                         layout.block_size % kTileTokens == 0 &&
                         !layout.has_key_bounds && attention::HasWgmma();
  return has_tiles ? KvOrder::kTiles : KvOrder::kHeads;
}

int64_t AttentionCudaWorkspaceBytes(int32_t max_tokens, int32_t num_q_heads,
                                    int32_t head_dim, int32_t num_sms) {
  const StepSize size = {max_tokens, max_tokens, num_q_heads, head_dim,
                         num_sms};
  return kStateBytes + RestBytes(size);
}

cudaError_t LaunchAttentionCuda(const AttentionParams& params,
                                const AttentionCudaOptions& options,
                                cudaStream_t stream) {
  if (params.num_tokens <= 0 || params.num_seqs <= 0) return cudaSuccess;
  const KvLayout& layout = params.cache.layout;
  if (!HasTensorCoreKernel(params.cache)) {
    return attention::LaunchSimple(params, stream);
  }
  const StepSize size = {params.num_tokens, params.num_seqs,
                         params.num_q_heads / layout.num_kv_heads,
                         layout.head_dim, NumSms(options)};
  AttentionPlan plan;
  if (!LayPlan(size, layout.num_kv_heads, options, &plan)) {
    return cudaErrorInvalidValue;
  }
  SetBlockDivision(layout.block_size, &plan);
  plan.block_rows =
      static_cast<uint32_t>(layout.BlockStride() / layout.head_dim);
  const bool has_decodes = params.min_new_tokens <= kMaxDecodeTokens;
  const bool has_prefills =
      options.max_query <= 0 || options.max_query > kMaxDecodeTokens;
  plan.has_few_rows =
      MaxPrefillTiles(size) * 2 * layout.num_kv_heads <= size.num_sms;
  plan.is_known = options.reuse_plan;
  plan.reads_early = options.reuse_plan && params.are_contexts_apart;
  plan.prefills_alone = !has_decodes;
  cudaError_t error = cudaSuccess;
  if (!options.reuse_plan) {
    error = attention::LaunchPlan(params, plan, stream);
    if (error != cudaSuccess) return error;
  }
  if (has_decodes) {
    error = attention::LaunchDecode(params, plan, size.num_sms, stream);
    if (error != cudaSuccess) return error;
  }
  if (!has_prefills) return cudaSuccess;
  return !options.is_deterministic && attention::HasWgmma()
             ? attention::LaunchWgmmaPrefill(params, plan, stream)
             : attention::LaunchPrefill(params, plan, stream);
}

}  // namespace quire
