// SPDX-License-Identifier: Apache-2.0
//
// How fast operations run on a GPU, each beside what bounds it in the same run:
// bytes moved against a copy of the same device. Times are of graphs of many
// launches, medians of several replays; activations take turns so that none
// stays in the cache.
//
// Usage: op_bench [--quick]
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/copy_blocks.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_sampler.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/rope_kv.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/swap_blocks.h"
#include "tests/kernels/cuda/bench_line.h"

namespace quire {
namespace {

#define CHECK_CUDA(expression) CHECK_EQ(expression, cudaSuccess)

cudaStream_t stream;
bool is_quick = false;

std::unique_ptr<DeviceBuffer> Device(int64_t bytes) {
  auto buffer = AllocateCuda(bytes);
  CHECK(buffer.ok()) << buffer.status();
  return *std::move(buffer);
}

// Random bfloat16 or float of moderate size: zeros would run faster.
std::unique_ptr<DeviceBuffer> Random(int64_t n, DType dtype) {
  static const auto* const pattern = [] {
    auto* values = new std::vector<float>(1 << 22);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& value : *values) value = normal(random);
    return values;
  }();
  const auto floats = Device(std::min<int64_t>(n, 1 << 22) * 4);
  CHECK_CUDA(cudaMemcpy(floats->data(), pattern->data(), floats->bytes(),
                        cudaMemcpyHostToDevice));
  auto buffer = Device(n * SizeOf(dtype));
  for (int64_t i = 0; i < n; i += 1 << 22) {
    CHECK_CUDA(LaunchCastCuda(floats->data(), DType::kF32,
                              buffer->as<char>() + i * SizeOf(dtype), dtype,
                              std::min<int64_t>(n - i, 1 << 22), stream));
  }
  CHECK_CUDA(cudaStreamSynchronize(stream));
  return buffer;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Microseconds of one of `count` launches in a graph.
double TimeGraph(int count, const std::function<void(int)>& enqueue) {
  enqueue(0);  // loads what is loaded lazily
  CHECK_CUDA(cudaStreamSynchronize(stream));
  cudaGraph_t graph;
  cudaGraphExec_t ready;
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < count; ++i) enqueue(i);
  CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
  CHECK_CUDA(cudaGraphInstantiate(&ready, graph, 0));
  cudaEvent_t begin, end;
  CHECK_CUDA(cudaEventCreate(&begin));
  CHECK_CUDA(cudaEventCreate(&end));
  std::vector<double> times;
  for (int run = 0; run < (is_quick ? 3 : 6); ++run) {
    CHECK_CUDA(cudaEventRecord(begin, stream));
    CHECK_CUDA(cudaGraphLaunch(ready, stream));
    CHECK_CUDA(cudaEventRecord(end, stream));
    CHECK_CUDA(cudaEventSynchronize(end));
    float ms = 0;
    CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
    if (run > 0) times.push_back(ms * 1000 / count);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(ready);
  cudaGraphDestroy(graph);
  return Median(times);
}

// Microseconds of what a graph cannot hold, between two events.
double TimeStream(const std::function<void()>& enqueue) {
  cudaEvent_t begin, end;
  CHECK_CUDA(cudaEventCreate(&begin));
  CHECK_CUDA(cudaEventCreate(&end));
  std::vector<double> times;
  for (int run = 0; run < 6; ++run) {
    CHECK_CUDA(cudaEventRecord(begin, stream));
    enqueue();
    CHECK_CUDA(cudaEventRecord(end, stream));
    CHECK_CUDA(cudaEventSynchronize(end));
    float ms = 0;
    CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
    if (run > 0) times.push_back(ms * 1000);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return Median(times);
}

double copy_bandwidth;  // GB/s, read plus written

// Beside a copy of as many bytes, read plus written.
void Report(const std::string& name, double us, double bytes,
            std::vector<BenchLine::Other> peers = {}) {
  peers.insert(peers.begin(), {"limit", bytes / copy_bandwidth / 1000});
  PrintBenchLine(
      {name, us, peers, absl::StrFormat("%.0f GB/s", bytes / us / 1000)});
}

void BenchCopy() {
  const int64_t bytes = int64_t{1} << 30;
  const auto a = Random(bytes / 2, DType::kBf16), b = Device(bytes);
  const auto copy = [&](int) {
    CHECK_CUDA(cudaMemcpyAsync(b->data(), a->data(), bytes,
                               cudaMemcpyDeviceToDevice, stream));
  };
  TimeGraph(100, copy);  // raises an idle device's clocks
  // Not in a graph, whose copies go through the copy engines.
  const double us = TimeStream([&] {
                      for (int i = 0; i < 20; ++i) copy(i);
                    }) /
                    20;
  copy_bandwidth = 2.0 * bytes / us / 1000;
  Report("copy of 1 GiB (cudaMemcpyAsync)", us, 2.0 * bytes);
}

// Buffers of `bytes` in turns, 256 MB of them at least.
int Turns(int64_t bytes) {
  return static_cast<int>(std::clamp<int64_t>((256 << 20) / bytes, 2, 24));
}

void BenchElementwise() {
  const int width = 4096;
  for (int tokens : {1, 32, 256, 2048, 8192}) {
    const int64_t n = int64_t{tokens} * width;
    const int turns = Turns(n * 10);
    std::vector<std::unique_ptr<DeviceBuffer>> x, residual, out;
    for (int i = 0; i < turns; ++i) {
      x.push_back(Random(n, DType::kF32));
      residual.push_back(Random(n, DType::kBf16));
      out.push_back(Device(n * 2));
    }
    const auto weight = Random(width, DType::kBf16);
    NormParams params = {};
    params.kind = NormKind::kRms;
    params.x_dtype = DType::kF32;
    params.weight = weight->data();
    params.epsilon = 1e-5f;
    params.width = width;
    params.num_tokens = tokens;
    const double us = TimeGraph(turns, [&](int i) {
      params.x = x[i]->data();
      params.residual = residual[i]->data();
      params.out = out[i]->data();
      CHECK_CUDA(LaunchNormCuda(params, DType::kBf16, stream));
    });
    Report("add+RMSNorm, float partial, " + std::to_string(tokens) + " x 4096",
           us, n * 10.0);
  }
  for (int tokens : {1, 32, 256, 2048}) {
    const int inner = 14336;
    const int64_t n = int64_t{tokens} * inner;
    const int turns = Turns(n * 6);
    std::vector<std::unique_ptr<DeviceBuffer>> x, out;
    for (int i = 0; i < turns; ++i) {
      x.push_back(Random(2 * n, DType::kBf16));
      out.push_back(Device(n * 2));
    }
    const double us = TimeGraph(turns, [&](int i) {
      CHECK_CUDA(LaunchActivationCuda({ActivationKind::kSiluMul, x[i]->data(),
                                       out[i]->data(), inner, tokens},
                                      DType::kBf16, stream));
    });
    Report("SiLU mul, " + std::to_string(tokens) + " x 14336", us, n * 6.0);
  }
}

void BenchRope() {
  const KvLayout layout = {1, 8, 128, 16, DType::kBf16};
  const int q_heads = 32, max_positions = 8192;
  const int64_t stride = (q_heads + 16) * 128;
  const auto cos_sin = Random(int64_t{max_positions} * 128, DType::kF32);
  for (int tokens : {1, 64, 256, 2048, 8192}) {
    const int turns = Turns(tokens * stride * 2);
    const int num_blocks = (tokens + 15) / 16 + 1;
    std::vector<std::unique_ptr<DeviceBuffer>> qkv, cache;
    for (int i = 0; i < turns; ++i) {
      qkv.push_back(Random(tokens * stride, DType::kBf16));
      cache.push_back(Device(num_blocks * layout.BlockBytes()));
    }
    std::vector<int32_t> indices(2 * tokens);
    for (int i = 0; i < tokens; ++i) {
      indices[i] = i % max_positions;               // positions
      indices[tokens + i] = (i * 7919LL) % tokens;  // slots
    }
    const auto device_indices = Device(indices.size() * 4);
    CHECK_CUDA(cudaMemcpy(device_indices->data(), indices.data(),
                          indices.size() * 4, cudaMemcpyHostToDevice));
    RopeWriteKvParams params = {};
    params.qkv_stride = stride;
    params.cos_sin = cos_sin->as<float>();
    params.positions = device_indices->as<int32_t>();
    params.slot_mapping = device_indices->as<int32_t>() + tokens;
    params.rotary_dim = 128;
    params.num_q_heads = q_heads;
    params.num_tokens = tokens;
    const double us = TimeGraph(turns, [&](int i) {
      params.qkv = qkv[i]->data();
      params.cache = {cache[i]->data(), layout, 0, num_blocks};
      CHECK_CUDA(LaunchRopeWriteKvCuda(params, /*is_known=*/true, stream));
    });
    // Queries read and written, keys and values read and written.
    Report("rope + KV write, 32/8 x 128, " + std::to_string(tokens) + " tokens",
           us, tokens * (32.0 + 16.0) * 128 * 2 * 2);
  }
}

void BenchBlocks() {
  const int64_t block_bytes = 128 << 10;  // 16 tokens of 8 heads, 2 layers
  const int pairs = 256, num_blocks = 2048;
  const auto cache = Random(num_blocks * block_bytes / 2, DType::kBf16);
  std::vector<BlockPair> list;
  for (int i = 0; i < pairs; ++i) list.push_back({i * 3 % 1024, 1024 + i * 4});
  const BlockCopyParams params = {cache->data(), cache->data(), list.data(),
                                  block_bytes, pairs};
  const double us = TimeGraph(
      4, [&](int) { CHECK_CUDA(LaunchCopyBlocksCuda(params, stream)); });
  const double each = TimeStream([&] {
    for (const BlockPair& pair : list) {
      CHECK_CUDA(cudaMemcpyAsync(cache->as<char>() + pair.dst * block_bytes,
                                 cache->as<char>() + pair.src * block_bytes,
                                 block_bytes, cudaMemcpyDeviceToDevice,
                                 stream));
    }
  });
  Report("copy of 256 blocks of 128 KiB", us, 2.0 * pairs * block_bytes,
         {{"256 copies", each}});

  auto pool = AllocatePinned(num_blocks * block_bytes);
  CHECK(pool.ok());
  BlockCopyParams swap = params;
  swap.dst = (*pool)->data();
  const auto report_swap = [&](const char* name, double us, double whole) {
    PrintBenchLine({name, us, {{"limit", whole}},
                    absl::StrFormat("%.1f GB/s beside one copy",
                                    pairs * block_bytes / us / 1000)});
  };
  const double out = TimeStream([&] {
    CHECK_CUDA(SwapBlocksCuda(swap, cudaMemcpyDeviceToHost, stream));
  });
  const double whole_out = TimeStream([&] {
    CHECK_CUDA(cudaMemcpyAsync((*pool)->data(), cache->data(),
                               pairs * block_bytes, cudaMemcpyDeviceToHost,
                               stream));
  });
  report_swap("swap out of 256 blocks of 128 KiB", out, whole_out);
  const double in = TimeStream([&] {
    CHECK_CUDA(SwapBlocksCuda(
        {(*pool)->data(), cache->data(), list.data(), block_bytes, pairs},
        cudaMemcpyHostToDevice, stream));
  });
  const double whole_in = TimeStream([&] {
    CHECK_CUDA(cudaMemcpyAsync(cache->data(), (*pool)->data(),
                               pairs * block_bytes, cudaMemcpyHostToDevice,
                               stream));
  });
  report_swap("swap in of 256 blocks of 128 KiB", in, whole_in);
}

void BenchSampler() {
  const int vocab = 128256;
  for (int rows : {1, 32, 256}) {
    const auto logits = Random(int64_t{rows} * vocab, DType::kF32);
    const auto workspace = Device(CudaSampleWorkspaceBytes(rows, vocab));
    const auto summaries = Device(rows * sizeof(ShardSummary));
    const auto candidates = Device(rows * 2048 * sizeof(Candidate));
    const auto overflowed = Device(rows * sizeof(int32_t));
    for (bool is_greedy : {true, false}) {
      std::vector<CudaSampleRow> host(rows);
      for (int i = 0; i < rows; ++i) {
        host[i] = {};
        host[i].seed = i;
        host[i].position = 100;
        host[i].divisor = is_greedy ? 1.0f : 0.8f;
        host[i].is_greedy = is_greedy;
        host[i].repetition_penalty = 1;
      }
      const auto device = Device(rows * sizeof(CudaSampleRow));
      CHECK_CUDA(cudaMemcpy(device->data(), host.data(), device->bytes(),
                            cudaMemcpyHostToDevice));
      for (int num_candidates : {0, 128, 2048}) {
        if (is_greedy && num_candidates > 0) continue;
        CudaSampleParams params = {};
        params.logits = logits->as<float>();
        params.num_vocab = vocab;
        params.num_rows = rows;
        params.num_candidates = num_candidates;
        params.rows = device->as<CudaSampleRow>();
        params.summaries = summaries->as<ShardSummary>();
        params.candidates = candidates->as<Candidate>();
        params.overflowed = overflowed->as<int32_t>();
        params.workspace = workspace->data();
        const double us = TimeGraph(
            4, [&](int) { CHECK_CUDA(LaunchSampleShardCuda(params, stream)); });
        Report(std::string(is_greedy ? "greedy" : "sample") + ", " +
                   std::to_string(rows) + " x 128256, " +
                   std::to_string(num_candidates) + " candidates",
               us, 4.0 * rows * vocab);
      }
    }
  }
}

int Main(int argc, char** argv) {
  is_quick = argc == 2 && std::strcmp(argv[1], "--quick") == 0;
  if (argc > 1 && !is_quick) {
    std::fprintf(stderr, "usage: op_bench [--quick]\n");
    return 2;
  }
  CHECK_CUDA(cudaSetDevice(0));
  CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  BenchCopy();
  BenchElementwise();
  BenchRope();
  BenchBlocks();
  BenchSampler();
  return 0;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) { return quire::Main(argc, argv); }
