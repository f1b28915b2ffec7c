// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>

#include "cuda_bf16.h"
#include "kernels/cuda/attention.h"
#include "tests/kernels/cuda/attention_bench_case.h"

namespace quire {
namespace {

constexpr int64_t kPoolBytes = int64_t{24} << 30;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

__global__ void FillKernel(__nv_bfloat16* to, int64_t count) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += step) {
    uint32_t bits = static_cast<uint32_t>(i * 2654435761u) ^ (i >> 20);
    bits = (bits ^ (bits >> 15)) * 0x2c1b3c6du;
    bits = (bits ^ (bits >> 12)) * 0x297a2d39u;
    bits ^= bits >> 15;
    // Near normal: the sum of four uniforms.
    float sum = -510.0f;
    for (int byte = 0; byte < 4; ++byte) sum += (bits >> (8 * byte)) & 255;
    to[i] = __float2bfloat16_rn(sum / 148.0f);
  }
}

__global__ void __launch_bounds__(512)
    ReadKernel(const uint4* from, int64_t count, uint32_t* sink) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  uint32_t sum = 0;
  for (; i + 7 * step < count; i += 8 * step) {
    uint4 value[8];
#pragma unroll
    for (int u = 0; u < 8; ++u) value[u] = __ldcs(from + i + u * step);
#pragma unroll
    for (int u = 0; u < 8; ++u) {
      sum ^= value[u].x ^ value[u].y ^ value[u].z ^ value[u].w;
    }
  }
  if (sum == 0x12345678) *sink = sum;
}

class Buffer {
 public:
  explicit Buffer(int64_t bytes) : bytes_(bytes) {
    Check(cudaMalloc(&data_, bytes), "allocating");
  }
  explicit Buffer(const std::vector<int32_t>& numbers)
      : Buffer(numbers.size() * 4) {
    Check(cudaMemcpy(data_, numbers.data(), bytes_, cudaMemcpyHostToDevice),
          "copying");
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void Fill() {
    FillKernel<<<132 * 16, 256>>>(as<__nv_bfloat16>(), bytes_ / 2);
    Check(cudaDeviceSynchronize(), "filling");
  }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_;
};

// Memory for the caches of all cases, one after the other, as an engine takes
// all that it will need at once: how fast reads are depends on where in the
// device's memory they lie, up to a tenth.
Buffer& ThePool(int64_t bytes) {
  static Buffer* const pool = [] {
    auto* made = new Buffer(kPoolBytes);
    made->Fill();
    return made;
  }();
  if (bytes > pool->bytes()) {
    std::fprintf(stderr, "a cache of %lld bytes is too large\n",
                 static_cast<long long>(bytes));
    std::exit(1);
  }
  return *pool;
}

// Median of several replays of a graph, in seconds.
template <typename Enqueue>
double TimeGraph(int replays, Enqueue enqueue) {
  cudaStream_t stream;
  Check(cudaStreamCreate(&stream), "stream");
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
        "capturing");
  enqueue(stream);
  cudaGraph_t graph;
  Check(cudaStreamEndCapture(stream, &graph), "capturing");
  cudaGraphExec_t run;
  Check(cudaGraphInstantiate(&run, graph, 0), "instantiating");
  cudaEvent_t begin, end;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  std::vector<float> times;
  for (int i = 0; i < replays + 2; ++i) {
    cudaEventRecord(begin, stream);
    Check(cudaGraphLaunch(run, stream), "launching");
    cudaEventRecord(end, stream);
    Check(cudaEventSynchronize(end), "running");
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, begin, end);
    if (i >= 2) times.push_back(milliseconds);
  }
  std::sort(times.begin(), times.end());
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(run);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return times[times.size() / 2] * 1e-3;
}

}  // namespace

std::vector<BenchSequence> AlikeSequences(int32_t count, int32_t context,
                                          int32_t new_tokens) {
  return std::vector<BenchSequence>(count, {context, new_tokens});
}

double ReadBandwidth(int32_t num_sms) {
  constexpr int64_t kBytes = int64_t{4} << 30;
  const Buffer& data = ThePool(kBytes);
  Buffer sink(64);
  double best = 0;
  for (int blocks_per_sm : {2, 3, 4}) {
    const double seconds = TimeGraph(5, [&](cudaStream_t stream) {
      ReadKernel<<<num_sms * blocks_per_sm, 512, 0, stream>>>(
          data.as<uint4>(), kBytes / 16, sink.as<uint32_t>());
    });
    best = std::max(best, kBytes / seconds);
  }
  return best;
}

int64_t KvBytes(const BenchCase& c) {
  int64_t tokens = 0;
  for (const BenchSequence& sequence : c.sequences) tokens += sequence.context;
  return tokens * 2 * c.num_kv_heads * c.head_dim * 2;
}

namespace {

// What the device knows of a step: arrays of AttentionParams.
struct StepArrays {
  std::vector<int32_t> slots, starts, contexts, tables;
  int32_t max_blocks = 1, num_blocks = 0;
  int32_t min_query = INT32_MAX, max_query = 0;
};

StepArrays LayStep(const BenchCase& c) {
  StepArrays step;
  step.starts.push_back(0);
  for (const BenchSequence& sequence : c.sequences) {
    const int32_t blocks = (sequence.context + c.block_size - 1) / c.block_size;
    step.max_blocks = std::max(step.max_blocks, blocks);
    step.num_blocks += blocks;
    step.min_query = std::min(step.min_query, sequence.new_tokens);
    step.max_query = std::max(step.max_query, sequence.new_tokens);
    step.slots.push_back(static_cast<int32_t>(step.slots.size()));
    step.starts.push_back(step.starts.back() + sequence.new_tokens);
    step.contexts.push_back(sequence.context);
  }
  std::vector<int32_t> shuffled(step.num_blocks);
  std::iota(shuffled.begin(), shuffled.end(), 0);
  std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937(1));
  step.tables.assign(c.sequences.size() * int64_t{step.max_blocks}, 0);
  int32_t next = 0;
  for (size_t seq = 0; seq < c.sequences.size(); ++seq) {
    for (int32_t b = 0; b * c.block_size < step.contexts[seq]; ++b) {
      step.tables[int64_t(seq) * step.max_blocks + b] = shuffled[next++];
    }
  }
  return step;
}

}  // namespace

double TimeCase(const BenchCase& c, int32_t num_sms) {
  const StepArrays step = LayStep(c);
  // At least five times the L2 cache, and 16 launches a replay.
  const int64_t layers = std::clamp<int64_t>(
      (int64_t{320} << 20) / std::max<int64_t>(KvBytes(c), 1) + 1, 2, 256);
  KvLayout layout = {static_cast<int32_t>(layers), c.num_kv_heads, c.head_dim,
                     c.block_size, DType::kBf16};
  layout.order = AttentionCudaOrder(layout);
  const int64_t cache_bytes = step.num_blocks * layout.BlockBytes();
  Buffer& pool = ThePool(cache_bytes);
  const int64_t row = int64_t{c.num_q_heads} * c.head_dim;
  const int32_t num_tokens = step.starts.back();
  Buffer q(num_tokens * row * 2), out(num_tokens * row * 2), slots(step.slots),
      starts(step.starts), tables(step.tables), contexts(step.contexts);
  q.Fill();
  AttentionParams params = {};
  params.q = q.as<void>();
  params.q_stride = row;
  params.out = out.as<void>();
  params.cache = {pool.as<void>(), layout, 0, step.num_blocks};
  params.block_tables = tables.as<int32_t>();
  params.seq_slots = slots.as<int32_t>();
  params.query_start = starts.as<int32_t>();
  params.context_lens = contexts.as<int32_t>();
  params.max_blocks_per_seq = step.max_blocks;
  params.num_seqs = static_cast<int32_t>(c.sequences.size());
  params.num_tokens = num_tokens;
  params.num_q_heads = c.num_q_heads;
  params.scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  params.are_contexts_apart = step.max_query == 1;
  params.min_new_tokens = step.min_query;
  AttentionCudaOptions options = {};
  options.num_sms = num_sms;
  options.max_query = step.max_query;
  options.is_deterministic = c.is_deterministic;
  options.workspace_bytes = AttentionCudaWorkspaceBytes(
      num_tokens, c.num_q_heads, c.head_dim, num_sms);
  Buffer workspace(options.workspace_bytes);
  options.workspace = workspace.as<void>();
  Check(cudaMemset(options.workspace, kAttentionEmptyByte,
                   options.workspace_bytes),
        "emptying");
  Check(LaunchAttentionCuda(params, options, nullptr), "planning");
  Check(cudaDeviceSynchronize(), "planning");
  options.reuse_plan = true;
  const int launches = std::max<int>(16, layers);
  const auto enqueue = [&](cudaStream_t stream) {
    for (int i = 0; i < launches; ++i) {
      params.cache.layer_idx = i % layers;
      Check(LaunchAttentionCuda(params, options, stream), "launching");
    }
  };
  return TimeGraph(7, enqueue) / launches;
}

}  // namespace quire
