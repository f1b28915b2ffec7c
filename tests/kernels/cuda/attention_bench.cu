// SPDX-License-Identifier: Apache-2.0
//
// Paged attention of one layer in bfloat16 on a CUDA device, head dim 128,
// blocks of 16 tokens unless said otherwise: decodes beside the memory's read
// bandwidth measured in the same run, prefills as arithmetic. Launches are
// captured in a graph and walk over the cache's layers, so that nothing is read
// from the L2 cache that an earlier launch left there.
//
//   bazel run --config=opt --config=cuda90 //tests/kernels/cuda:attention_bench
//
// Arguments: any of decode, prefill, skew, blocks, dims; none: all. Or "case"
// with a batch, a context and the new tokens of each sequence. SDPA_TIMES names
// a file of tools/bench/peers/sdpa_bench.py's, to print prefills beside.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cuda_bf16.h"
#include "kernels/cuda/attention.h"

namespace quire {
namespace {

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

double ReadBandwidth(int num_sms) {
  Buffer data(int64_t{4} << 30), sink(64);
  data.Fill();
  double best = 0;
  for (int blocks_per_sm : {2, 3, 4}) {
    const double seconds = TimeGraph(5, [&](cudaStream_t stream) {
      ReadKernel<<<num_sms * blocks_per_sm, 512, 0, stream>>>(
          data.as<uint4>(), data.bytes() / 16, sink.as<uint32_t>());
    });
    best = std::max(best, data.bytes() / seconds);
  }
  return best;
}

struct Case {
  int32_t num_q_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t block_size;
  std::vector<int32_t> contexts;
  int32_t new_tokens;  // of each sequence
};

int64_t KvBytes(const Case& c) {
  int64_t tokens = 0;
  for (int32_t context : c.contexts) tokens += context;
  return tokens * 2 * c.num_kv_heads * c.head_dim * 2;
}

// Seconds a layer.
double TimeCase(const Case& c, int num_sms, bool is_deterministic = false) {
  const int32_t num_seqs = c.contexts.size();
  std::vector<int32_t> slots(num_seqs), starts(num_seqs + 1);
  int32_t max_blocks = 1, num_blocks = 0;
  for (int32_t seq = 0; seq < num_seqs; ++seq) {
    const int32_t blocks = (c.contexts[seq] + c.block_size - 1) / c.block_size;
    max_blocks = std::max(max_blocks, blocks);
    num_blocks += blocks;
    slots[seq] = seq;
    starts[seq + 1] = starts[seq] + c.new_tokens;
  }
  std::vector<int32_t> shuffled(num_blocks);
  std::iota(shuffled.begin(), shuffled.end(), 0);
  std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937(1));
  std::vector<int32_t> tables(int64_t{num_seqs} * max_blocks, 0);
  for (int32_t seq = 0, next = 0; seq < num_seqs; ++seq) {
    for (int32_t b = 0; b * c.block_size < c.contexts[seq]; ++b) {
      tables[int64_t{seq} * max_blocks + b] = shuffled[next++];
    }
  }
  // At least five times the L2 cache, and 16 launches a replay.
  const int64_t layers = std::clamp<int64_t>(
      (int64_t{320} << 20) / std::max<int64_t>(KvBytes(c), 1) + 1, 2, 256);
  const KvLayout layout = {static_cast<int32_t>(layers), c.num_kv_heads,
                           c.head_dim, c.block_size, DType::kBf16};
  Buffer cache(num_blocks * layout.BlockBytes());
  cache.Fill();
  const int64_t row = int64_t{c.num_q_heads} * c.head_dim;
  const int32_t num_tokens = starts.back();
  Buffer q(num_tokens * row * 2), out(num_tokens * row * 2), slots_copy(slots),
      starts_copy(starts), tables_copy(tables), contexts_copy(c.contexts);
  q.Fill();
  AttentionParams params = {};
  params.q = q.as<void>();
  params.q_stride = row;
  params.out = out.as<void>();
  params.cache = {cache.as<void>(), layout, 0, num_blocks};
  params.block_tables = tables_copy.as<int32_t>();
  params.seq_slots = slots_copy.as<int32_t>();
  params.query_start = starts_copy.as<int32_t>();
  params.context_lens = contexts_copy.as<int32_t>();
  params.max_blocks_per_seq = max_blocks;
  params.num_seqs = num_seqs;
  params.num_tokens = num_tokens;
  params.num_q_heads = c.num_q_heads;
  params.scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  AttentionCudaOptions options = {};
  options.num_sms = num_sms;
  options.max_query = c.new_tokens;
  options.is_deterministic = is_deterministic;
  options.workspace_bytes = AttentionCudaWorkspaceBytes(
      num_tokens, c.num_q_heads, c.head_dim, num_sms);
  Buffer workspace(options.workspace_bytes);
  options.workspace = workspace.as<void>();
  Check(LaunchAttentionCuda(params, options, nullptr), "planning");
  Check(cudaDeviceSynchronize(), "planning");
  options.reuse_plan = true;
  const int launches = std::max<int>(16, layers);
  return TimeGraph(7,
                   [&](cudaStream_t stream) {
                     for (int i = 0; i < launches; ++i) {
                       params.cache.layer_idx = i % layers;
                       Check(LaunchAttentionCuda(params, options, stream),
                             "launching");
                     }
                   }) /
         launches;
}

struct Reference {
  int32_t batch;
  int32_t context;
  double fa3_us;  // FlashAttention-3, paged by 16, on an H200; 0: not measured
};

void BenchDecodes(int32_t q_heads, int32_t kv_heads,
                  const std::vector<Reference>& cases, double read,
                  int num_sms) {
  std::printf("decode %d/%d heads\n%6s %7s %9s %7s %6s %8s %6s\n", q_heads,
              kv_heads, "batch", "context", "us", "TB/s", "read", "FA3 us",
              "FA3/us");
  for (const Reference& r : cases) {
    const Case c = {
        q_heads, kv_heads, 128, 16, std::vector<int32_t>(r.batch, r.context),
        1};
    const double seconds = TimeCase(c, num_sms);
    const double rate = KvBytes(c) / seconds;
    std::printf("%6d %7d %9.2f %7.2f %6.3f %8.1f %6.2f\n", r.batch, r.context,
                seconds * 1e6, rate * 1e-12, rate / read, r.fa3_us,
                r.fa3_us / (seconds * 1e6));
    std::fflush(stdout);
  }
}

void BenchPlainDecodes(double read, int num_sms) {
  BenchDecodes(32, 8,
               {{1, 512, 11.9},
                {1, 1024, 11.4},
                {1, 4096, 13.7},
                {1, 32768, 42.3},
                {8, 512, 13.6},
                {8, 4096, 41.3},
                {8, 32768, 256},
                {32, 512, 25.6},
                {32, 2048, 72.6},
                {32, 8192, 254},
                {64, 512, 45.8},
                {64, 4096, 254},
                {128, 512, 80},
                {128, 2048, 261},
                {128, 8192, 968},
                {256, 512, 157},
                {256, 2048, 513}},
               read, num_sms);
  BenchDecodes(40, 40,
               {{1, 512, 13.2},
                {1, 4096, 30.1},
                {1, 32768, 168},
                {8, 512, 32.5},
                {8, 4096, 171},
                {32, 512, 96.8},
                {32, 2048, 316},
                {32, 8192, 1204},
                {64, 512, 189},
                {128, 512, 355},
                {128, 2048, 1228},
                {256, 512, 669}},
               read, num_sms);
}

void BenchSkew(double read, int num_sms) {
  // Zipf lengths of 64 sequences beside as many tokens in equal ones.
  std::vector<int32_t> lengths;
  double sum = 0;
  for (int i = 1; i <= 64; ++i) sum += 1.0 / i;
  for (int i = 1; i <= 64; ++i) {
    lengths.push_back(static_cast<int32_t>(65536 / sum / i) + 1);
  }
  const int64_t total = std::accumulate(lengths.begin(), lengths.end(), 0);
  const Case skewed = {32, 8, 128, 16, lengths, 1};
  const Case equal = {
      32,
      8,
      128,
      16,
      std::vector<int32_t>(64, static_cast<int32_t>(total / 64)),
      1};
  const double a = TimeCase(skewed, num_sms), b = TimeCase(equal, num_sms);
  std::printf("skewed lengths %.2f us, %.3f of read; equal %.2f us: %.3f\n",
              a * 1e6, KvBytes(skewed) / a / read, b * 1e6, a / b);
}

void BenchBlocks(double read, int num_sms) {
  for (int32_t block_size : {16, 32, 64, 128, 256, 2048}) {
    const Case c = {32, 8, 128, block_size, std::vector<int32_t>(64, 2048), 1};
    const double seconds = TimeCase(c, num_sms);
    std::printf("64 x 2048, block size %4d: %7.2f us, %.3f of read\n",
                block_size, seconds * 1e6, KvBytes(c) / seconds / read);
  }
}

void BenchHeadDims(double read, int num_sms) {
  for (int32_t head_dim : {64, 80, 96, 128, 256}) {
    for (int32_t group : {1, 4, 8, 16}) {
      const Case c = {
          8 * group, 8, head_dim, 16, std::vector<int32_t>(32, 2048), 1};
      const double seconds = TimeCase(c, num_sms);
      std::printf(
          "32 x 2048, head dim %3d, group %2d: %7.2f us, %.3f of read\n",
          head_dim, group, seconds * 1e6, KvBytes(c) / seconds / read);
    }
  }
}

// Microseconds that PyTorch took over cuDNN in the same run; 0: unknown.
double CudnnTime(int32_t batch, int32_t context, int32_t new_tokens) {
  const char* path = std::getenv("SDPA_TIMES");
  std::FILE* file = path == nullptr ? nullptr : std::fopen(path, "r");
  if (file == nullptr) return 0;
  int b = 0, c = 0, n = 0;
  char backend[32];
  double time = 0, found = 0;
  while (std::fscanf(file, "%d %d %d %31s %lf", &b, &c, &n, backend, &time) ==
         5) {
    if (b == batch && c == context && n == new_tokens &&
        std::strcmp(backend, "cudnn") == 0) {
      found = time;
    }
  }
  std::fclose(file);
  return found;
}

void BenchPrefills(int num_sms) {
  struct Prefill {
    int32_t batch, context, new_tokens;
    double fa3_tflops;
  };
  std::printf("prefill 32/8 heads\n%6s %7s %7s %9s %8s %8s %9s %8s %13s\n",
              "batch", "context", "new", "us", "TFLOP/s", "FA3", "cuDNN us",
              "cuDNN/us", "determ. us");
  for (const Prefill& f : {Prefill{1, 128, 128, 0},
                           {1, 1024, 1024, 276},
                           {1, 2048, 2048, 456},
                           {1, 4096, 4096, 571},
                           {1, 8192, 8192, 560},
                           {1, 16384, 16384, 566},
                           {1, 8704, 512, 548},
                           {8, 2048, 2048, 0}}) {
    const Case c = {
        32, 8, 128, 16, std::vector<int32_t>(f.batch, f.context), f.new_tokens};
    const double seconds = TimeCase(c, num_sms);
    const double deterministic = TimeCase(c, num_sms, true);
    const double cudnn = CudnnTime(f.batch, f.context, f.new_tokens);
    const double pairs =
        f.batch * (1.0 * f.new_tokens * (f.context - f.new_tokens) +
                   0.5 * f.new_tokens * (f.new_tokens + 1.0));
    std::printf("%6d %7d %7d %9.1f %8.1f %8.0f %9.1f %8.2f %13.1f\n", f.batch,
                f.context, f.new_tokens, seconds * 1e6,
                pairs * 4 * 128 * 32 / seconds * 1e-12, f.fa3_tflops, cudnn,
                cudnn / seconds * 1e-6, deterministic * 1e6);
    std::fflush(stdout);
  }
}

void Bench(const std::string& what) {
  cudaDeviceProp device;
  Check(cudaGetDeviceProperties(&device, 0), "device");
  const int num_sms = device.multiProcessorCount;
  const double read = ReadBandwidth(num_sms);
  std::printf("%s, %d multiprocessors, read %.3f TB/s\n", device.name, num_sms,
              read * 1e-12);
  const auto wants = [&](const char* part) {
    return what.empty() || what.find(part) != std::string::npos;
  };
  int batch = 0, context = 0, new_tokens = 0;
  if (std::sscanf(what.c_str(), "case %d %d %d", &batch, &context,
                  &new_tokens) == 3) {
    const Case c = {32,        8, 128, 16, std::vector<int32_t>(batch, context),
                    new_tokens};
    std::printf("%.2f us\n", TimeCase(c, num_sms) * 1e6);
    return;
  }
  if (wants("decode")) BenchPlainDecodes(read, num_sms);
  if (wants("skew")) BenchSkew(read, num_sms);
  if (wants("blocks")) BenchBlocks(read, num_sms);
  if (wants("dims")) BenchHeadDims(read, num_sms);
  if (wants("prefill")) BenchPrefills(num_sms);
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  std::string what;
  for (int i = 1; i < argc; ++i) what += std::string(argv[i]) + " ";
  quire::Bench(what);
  return 0;
}
