// SPDX-License-Identifier: Apache-2.0
//
// Times a mixture of experts' operations on the shapes of Mixtral-8x7B and
// Qwen3-30B-A3B, in bfloat16, on random routes. A column each: microseconds of
// routing, of the two products, of adding up; then what the products read of
// their weights (experts that have a token, once each) and computed.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "cuda_runtime.h"
#include "glog/logging.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/moe_gemm.h"
#include "kernels/cuda/moe_route.h"

namespace quire {
namespace {

struct Shape {
  const char* name;
  int32_t hidden, intermediate, num_experts, top_k;
};

std::unique_ptr<DeviceBuffer> Zeros(int64_t bytes) {
  auto buffer = AllocateCuda(bytes);
  CHECK(buffer.ok()) << buffer.status();
  CHECK_EQ(cudaMemset((*buffer)->data(), 0, bytes), cudaSuccess);
  return *std::move(buffer);
}

// Random bfloat16 of deviation 1, repeated: zeros would run faster.
std::unique_ptr<DeviceBuffer> Random(int64_t bytes) {
  static const auto* const pattern = [] {
    auto* values = new std::vector<uint16_t>(1 << 23);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (uint16_t& value : *values) {
      const float number = normal(random);
      uint32_t bits;
      std::memcpy(&bits, &number, sizeof(bits));
      value = static_cast<uint16_t>(bits >> 16);
    }
    return values;
  }();
  auto buffer = Zeros(bytes);
  int64_t filled = std::min<int64_t>(bytes, pattern->size() * 2);
  CHECK_EQ(cudaMemcpy(buffer->data(), pattern->data(), filled,
                      cudaMemcpyHostToDevice),
           cudaSuccess);
  for (; filled < bytes; filled *= 2) {
    CHECK_EQ(
        cudaMemcpy(buffer->as<char>() + filled, buffer->data(),
                   std::min(filled, bytes - filled), cudaMemcpyDeviceToDevice),
        cudaSuccess);
  }
  return buffer;
}

// Layers whose weights take turns, so that none stays in the cache.
constexpr int kLayers = 4;

// Median microseconds of one launch; `launch` is given a layer.
double Time(cudaStream_t stream,
            const std::function<cudaError_t(int)>& launch) {
  constexpr int kRuns = 7, kLaunches = 2 * kLayers;
  cudaEvent_t begin, end;
  CHECK_EQ(cudaEventCreate(&begin), cudaSuccess);
  CHECK_EQ(cudaEventCreate(&end), cudaSuccess);
  std::vector<float> times;
  for (int i = 0; i < kRuns; ++i) {
    CHECK_EQ(cudaEventRecord(begin, stream), cudaSuccess);
    for (int j = 0; j < kLaunches; ++j) {
      CHECK_EQ(launch(j % kLayers), cudaSuccess);
    }
    CHECK_EQ(cudaEventRecord(end, stream), cudaSuccess);
    CHECK_EQ(cudaEventSynchronize(end), cudaSuccess);
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, begin, end);
    times.push_back(milliseconds);
  }
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return 1e3 * times[kRuns / 2] / kLaunches;
}

void Run(const Shape& shape, int32_t num_tokens, cudaStream_t stream) {
  const int64_t hidden = shape.hidden, inner = shape.intermediate;
  const int64_t rows = int64_t{num_tokens} * shape.top_k;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> logits(num_tokens * shape.num_experts);
  for (float& logit : logits) logit = normal(random);
  const auto device_logits = Zeros(logits.size() * sizeof(float));
  CHECK_EQ(cudaMemcpy(device_logits->data(), logits.data(),
                      logits.size() * sizeof(float), cudaMemcpyHostToDevice),
           cudaSuccess);
  const auto weights = Zeros(rows * 4), experts = Zeros(rows * 4),
             row_tokens = Zeros(rows * 4), pair_rows = Zeros(rows * 4),
             start = Zeros((shape.num_experts + 1) * 4);
  const auto x = Random(num_tokens * hidden * 2),
             act = Random(rows * inner * 2), in = Zeros(rows * 2 * inner * 2),
             out = Zeros(rows * hidden * 4),
             sum = Zeros(num_tokens * hidden * 4);
  const int64_t in_bytes = shape.num_experts * 2 * inner * hidden * 2;
  const int64_t out_bytes = in_bytes / 2;
  static std::unique_ptr<DeviceBuffer> w_in, w_out;
  if (w_in == nullptr || w_in->bytes() != kLayers * in_bytes) {
    w_in.reset();
    w_out.reset();
    w_in = Random(kLayers * in_bytes);
    w_out = Random(kLayers * out_bytes);
  }
  const RouteTokensParams route = {.logits = device_logits->as<float>(),
                                   .logits_stride = shape.num_experts,
                                   .num_experts = shape.num_experts,
                                   .top_k = shape.top_k,
                                   .num_tokens = num_tokens,
                                   .renormalize = true,
                                   .weights = weights->as<float>(),
                                   .experts = experts->as<int32_t>(),
                                   .row_tokens = row_tokens->as<int32_t>(),
                                   .pair_rows = pair_rows->as<int32_t>(),
                                   .expert_start = start->as<int32_t>()};
  MoeGemmParams up = {.x = x->data(),
                      .row_tokens = row_tokens->as<int32_t>(),
                      .w = w_in->data(),
                      .expert_start = start->as<int32_t>(),
                      .y = in->data(),
                      .n = 2 * inner,
                      .k = hidden,
                      .num_experts = shape.num_experts,
                      .num_rows = static_cast<int32_t>(rows),
                      .dtype = DType::kBf16,
                      .y_dtype = DType::kBf16};
  MoeGemmParams down = up;
  down.x = act->data();
  down.row_tokens = nullptr;
  down.w = w_out->data();
  down.y = out->data();
  down.n = hidden;
  down.k = inner;
  down.y_dtype = DType::kF32;
  const CombineExpertsParams combine = {.y = out->data(),
                                        .dtype = DType::kF32,
                                        .pair_rows = pair_rows->as<int32_t>(),
                                        .weights = weights->as<float>(),
                                        .shared = nullptr,
                                        .gate = nullptr,
                                        .gate_stride = 0,
                                        .out = sum->data(),
                                        .width = shape.hidden,
                                        .top_k = shape.top_k,
                                        .num_tokens = num_tokens};
  const double route_us =
      Time(stream, [&](int) { return LaunchRouteTokensCuda(route, stream); });
  std::vector<int32_t> starts(shape.num_experts + 1);
  CHECK_EQ(cudaMemcpy(starts.data(), start->data(), starts.size() * 4,
                      cudaMemcpyDeviceToHost),
           cudaSuccess);
  int num_active = 0;
  for (int e = 0; e < shape.num_experts; ++e) {
    num_active += starts[e] < starts[e + 1];
  }
  const double up_us = Time(stream, [&](int layer) {
    up.w = w_in->as<char>() + layer * in_bytes;
    return LaunchMoeGemmCuda(up, stream);
  });
  const double down_us = Time(stream, [&](int layer) {
    down.w = w_out->as<char>() + layer * out_bytes;
    return LaunchMoeGemmCuda(down, stream);
  });
  const double combine_us = Time(
      stream, [&](int) { return LaunchCombineExpertsCuda(combine, stream); });
  const double elements = 3.0 * inner * hidden;
  std::printf("%-14s %5d %8.1f %9.1f %9.1f %8.1f %8.2f %8.1f\n", shape.name,
              num_tokens, route_us, up_us, down_us, combine_us,
              num_active * elements * 2 / (up_us + down_us) / 1e6,
              2 * rows * elements / (up_us + down_us) / 1e6);
}

void RunAll() {
  cudaStream_t stream;
  CHECK_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
           cudaSuccess);
  std::printf("%-14s %5s %8s %9s %9s %8s %8s %8s\n", "shape", "rows", "route",
              "gate-up", "down", "combine", "TB/s", "TFLOP/s");
  for (const Shape& shape : {Shape{"Mixtral-8x7B", 4096, 14336, 8, 2},
                             Shape{"Qwen3-30B-A3B", 2048, 768, 128, 8}}) {
    for (int32_t num_tokens : {1, 8, 32, 128, 512, 2048, 8192}) {
      Run(shape, num_tokens, stream);
    }
  }
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace quire

int main() { quire::RunAll(); }
