// SPDX-License-Identifier: Apache-2.0
//
// Times a mixture of experts' operations on the shapes of Mixtral-8x7B and
// Qwen3-30B-A3B, in bfloat16, on random routes: the two products, beside what
// reading their weights (experts that have a token, once each) or computing
// takes at least, and routing and adding up.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "absl/strings/str_format.h"
#include "cuda_runtime.h"
#include "glog/logging.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/moe_gemm.h"
#include "kernels/cuda/moe_route.h"
#include "tests/kernels/cuda/bench_line.h"

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

// What a step of `num_tokens` tokens reads and writes, but for weights.
struct Step {
  Step(const Shape& shape, int32_t num_tokens)
      : shape(shape),
        num_tokens(num_tokens),
        rows(int64_t{num_tokens} * shape.top_k),
        logits(RandomLogits(int64_t{num_tokens} * shape.num_experts)),
        weights(Zeros(rows * 4)),
        experts(Zeros(rows * 4)),
        row_tokens(Zeros(rows * 4)),
        pair_rows(Zeros(rows * 4)),
        start(Zeros((shape.num_experts + 1) * 4)),
        x(Random(int64_t{num_tokens} * shape.hidden * 2)),
        act(Random(rows * shape.intermediate * 2)),
        in(Zeros(rows * 2 * shape.intermediate * 2)),
        out(Zeros(rows * shape.hidden * 4)),
        sum(Zeros(int64_t{num_tokens} * shape.hidden * 4)) {}

  static std::unique_ptr<DeviceBuffer> RandomLogits(int64_t count) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> logits(count);
    for (float& logit : logits) logit = normal(random);
    auto buffer = Zeros(count * 4);
    CHECK_EQ(cudaMemcpy(buffer->data(), logits.data(), count * 4,
                        cudaMemcpyHostToDevice),
             cudaSuccess);
    return buffer;
  }

  RouteTokensParams Route() const {
    return {.logits = logits->as<float>(),
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
  }
  MoeGemmParams Up(const void* w) const {
    return {.x = x->data(),
            .row_tokens = row_tokens->as<int32_t>(),
            .w = w,
            .expert_start = start->as<int32_t>(),
            .y = in->data(),
            .n = 2 * int64_t{shape.intermediate},
            .k = shape.hidden,
            .num_experts = shape.num_experts,
            .num_rows = static_cast<int32_t>(rows),
            .dtype = DType::kBf16,
            .y_dtype = DType::kBf16};
  }
  MoeGemmParams Down(const void* w) const {
    MoeGemmParams params = Up(w);
    params.x = act->data();
    params.row_tokens = nullptr;
    params.y = out->data();
    params.n = shape.hidden;
    params.k = shape.intermediate;
    params.y_dtype = DType::kF32;
    return params;
  }
  CombineExpertsParams Combine() const {
    return {.y = out->data(),
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
  }
  // Experts that have a token, once they are routed.
  int NumActive() const {
    std::vector<int32_t> starts(shape.num_experts + 1);
    CHECK_EQ(cudaMemcpy(starts.data(), start->data(), starts.size() * 4,
                        cudaMemcpyDeviceToHost),
             cudaSuccess);
    int count = 0;
    for (int e = 0; e < shape.num_experts; ++e) {
      count += starts[e] < starts[e + 1];
    }
    return count;
  }

  const Shape& shape;
  int32_t num_tokens;
  int64_t rows;
  std::unique_ptr<DeviceBuffer> logits, weights, experts, row_tokens, pair_rows,
      start, x, act, in, out, sum;
};

// kLayers layers of a shape's experts.
struct Weights {
  explicit Weights(const Shape& shape)
      : elements(int64_t{shape.intermediate} * shape.hidden),
        in_bytes(shape.num_experts * 2 * elements * 2),
        in(Random(kLayers * in_bytes)),
        out(Random(kLayers * in_bytes / 2)) {}

  const void* In(int layer) const { return in->as<char>() + layer * in_bytes; }
  const void* Out(int layer) const {
    return out->as<char>() + layer * in_bytes / 2;
  }

  int64_t elements;  // of one matrix of one expert
  int64_t in_bytes;  // of a layer
  std::unique_ptr<DeviceBuffer> in, out;
};

void Run(const Shape& shape, const Weights& weights, int32_t num_tokens,
         cudaStream_t stream) {
  const Step step(shape, num_tokens);
  const double route_us = Time(
      stream, [&](int) { return LaunchRouteTokensCuda(step.Route(), stream); });
  const double up_us = Time(stream, [&](int layer) {
    return LaunchMoeGemmCuda(step.Up(weights.In(layer)), stream);
  });
  const double down_us = Time(stream, [&](int layer) {
    return LaunchMoeGemmCuda(step.Down(weights.Out(layer)), stream);
  });
  const double combine_us = Time(stream, [&](int) {
    return LaunchCombineExpertsCuda(step.Combine(), stream);
  });
  const double elements = 3.0 * static_cast<double>(weights.elements);
  const double bytes = step.NumActive() * elements * 2;
  const double flops = 2 * static_cast<double>(step.rows) * elements;
  const double us = up_us + down_us;
  PrintBenchLine(
      {absl::StrFormat("experts of %s, %d rows", shape.name, num_tokens),
       us,
       {{"limit",
         std::max(bytes / kCopyBytesPerUs, flops / kTensorFlopsPerUs)}},
       absl::StrFormat("route %.1f us, gate-up %.1f, down %.1f, combine %.1f, "
                       "%.2f TB/s, %.0f TFLOP/s",
                       route_us, up_us, down_us, combine_us, bytes / us / 1e6,
                       flops / us / 1e6)});
}

void RunAll() {
  cudaStream_t stream;
  CHECK_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
           cudaSuccess);
  for (const Shape& shape : {Shape{"Mixtral-8x7B", 4096, 14336, 8, 2},
                             Shape{"Qwen3-30B-A3B", 2048, 768, 128, 8}}) {
    const Weights weights(shape);
    for (int32_t num_tokens : {1, 8, 32, 128, 512, 2048, 8192}) {
      Run(shape, weights, num_tokens, stream);
    }
  }
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace quire

int main() { quire::RunAll(); }
