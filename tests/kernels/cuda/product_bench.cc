// SPDX-License-Identifier: Apache-2.0
//
// Products by cuBLASLt's tuned choice, by our tiles and by our own kernel for
// so many rows, on weights that come from memory: each shape of Llama-3.1-8B
// alone, and a layer's chain of products as a model runs it.
//
//   product_bench [--chain | --plans] [--ranks=N] [ROWS...]
//
// With --plans, by every plan of panels that keeps most multiprocessors busy.
// With --ranks, one rank's part of the weights.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/lt_gemm.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/panel_gemm.h"
#include "kernels/cuda/stream_gemm.h"
#include "kernels/cuda/tile_gemm.h"

namespace quire {
namespace {

#define CHECK_CUDA(call) CHECK_EQ((call), cudaSuccess)

cudaStream_t stream;

std::unique_ptr<DeviceBuffer> Device(int64_t bytes) {
  auto buffer = AllocateCuda(bytes);
  CHECK(buffer.ok()) << buffer.status();
  return *std::move(buffer);
}

// Random bfloat16 of moderate size: zeros would run faster.
std::unique_ptr<DeviceBuffer> Random(int64_t n) {
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
  auto buffer = Device(n * 2);
  for (int64_t i = 0; i < n; i += 1 << 22) {
    CHECK_CUDA(LaunchCastCuda(floats->data(), DType::kF32,
                              buffer->as<char>() + i * 2, DType::kBf16,
                              std::min<int64_t>(n - i, 1 << 22), stream));
  }
  CHECK_CUDA(cudaStreamSynchronize(stream));
  return buffer;
}

// Microseconds of one of `count` runs in a graph.
double TimeGraph(int count, const std::function<void(int)>& enqueue) {
  enqueue(0);  // loads and times what is loaded and timed at first
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
  // Until the clock is what the power limit leaves of it.
  constexpr double kWarmUs = 1e5;
  double warm_us = 0;
  std::vector<double> times;
  while (times.size() < 5) {
    CHECK_CUDA(cudaEventRecord(begin, stream));
    CHECK_CUDA(cudaGraphLaunch(ready, stream));
    CHECK_CUDA(cudaEventRecord(end, stream));
    CHECK_CUDA(cudaEventSynchronize(end));
    float ms = 0;
    CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
    if (warm_us >= kWarmUs) times.push_back(ms * 1000 / count);
    warm_us += ms * 1000;
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(ready);
  cudaGraphDestroy(graph);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct Shape {
  const char* name;
  int64_t n, k;
  bool is_gated = false;
  DType y_dtype = DType::kBf16;
  bool adds = false;
};

std::vector<Shape> shapes;

// Ranks of a group keep the residual sum to themselves.
std::vector<Shape> ShapesOf(int64_t ranks) {
  return {{"QKV", 6144 / ranks, 4096},
          {"O", 4096, 4096 / ranks, false, DType::kBf16, ranks == 1},
          {"gate-up", 28672 / ranks, 4096, true},
          {"down", 4096, 14336 / ranks, false, DType::kBf16, ranks == 1},
          {"head", 128256 / ranks, 4096, false, DType::kF32}};
}

PlainGemmParams Params(const Shape& shape, int64_t m, const void* x,
                       const void* w, void* y) {
  return {.x = x,
          .x_stride = shape.k,
          .w = w,
          .bias = nullptr,
          .y = y,
          .y_stride = shape.is_gated ? shape.n / 2 : shape.n,
          .m = m,
          .n = shape.n,
          .k = shape.k,
          .dtype = DType::kBf16,
          .y_dtype = shape.y_dtype,
          .adds = shape.adds,
          .is_gated = shape.is_gated};
}

class Bench {
 public:
  Bench() {
    auto lt = LtGemm::Create({}, stream);
    CHECK(lt.ok()) << lt.status();
    lt_ = *std::move(lt);
    auto ours = StreamGemm::Create(stream);
    CHECK(ours.ok() && *ours != nullptr) << ours.status();
    ours_ = *std::move(ours);
    auto panels = PanelGemm::Create(stream);
    CHECK(panels.ok()) << panels.status();
    panels_ = *std::move(panels);
    auto tiles = TileGemm::Create(stream, /*is_deterministic=*/false);
    CHECK(tiles.ok() && *tiles != nullptr) << tiles.status();
    tiles_ = *std::move(tiles);
  }

  PanelGemm* panels() { return panels_.get(); }

  // The library cannot apply gates: an activation follows.
  void RunLibrary(PlainGemmParams p, void* scratch) {
    void* const y = p.y;
    const bool is_gated = p.is_gated;
    if (is_gated) {
      p.is_gated = false;
      p.y = scratch;
      p.y_stride = p.n;
    }
    const absl::Status status = lt_->Run(p);
    CHECK(status.ok()) << status;
    if (!is_gated) return;
    CHECK_CUDA(LaunchActivationCuda(
        {ActivationKind::kSiluMul, scratch, y, static_cast<int32_t>(p.n / 2),
         static_cast<int32_t>(p.m)},
        DType::kBf16, stream));
  }

  void RunOurs(const PlainGemmParams& p) {
    const absl::Status status = StreamGemm::CanRun(p)  ? ours_->Run(p)
                                : PanelGemm::CanRun(p) ? panels_->Run(p)
                                                       : tiles_->Run(p);
    CHECK(status.ok()) << status;
  }

  void RunTiles(const PlainGemmParams& p) {
    const absl::Status status = tiles_->Run(p);
    CHECK(status.ok()) << status;
  }

 private:
  std::unique_ptr<LtGemm> lt_;
  std::unique_ptr<StreamGemm> ours_;
  std::unique_ptr<PanelGemm> panels_;
  std::unique_ptr<TileGemm> tiles_;
};

// The part of the multiprocessors' time in which they have work, if all pieces
// take the same.
double BusyPart(const Shape& shape, const PanelPlan& plan, int64_t m,
                int num_sms) {
  const int64_t parts = (m + kPanelTokens - 1) / kPanelTokens;
  const int64_t panels = (shape.n + plan.rows - 1) / plan.rows;
  const int64_t blocks = panels * parts * plan.splits;
  const int64_t turns = (blocks + num_sms - 1) / num_sms;
  if (plan.splits > 1 && turns > 1) return 0;
  const double share = static_cast<double>(turns) * plan.rows / plan.splits;
  return shape.n * parts / (share * num_sms);
}

// By every plan that keeps most multiprocessors busy.
void BenchPlansOf(Bench* bench, const Shape& shape, int64_t m, int count,
                  const std::function<PlainGemmParams(int)>& params) {
  constexpr int kSms = 132;
  for (const int32_t rows : kPanelRows) {
    for (const int32_t splits : {1, 2, 3, 4, 6, 8}) {
      const PanelPlan plan = {rows, splits};
      if (BusyPart(shape, plan, m, kSms) < 0.7) continue;
      const double us = TimeGraph(count, [&](int i) {
        const absl::Status status = bench->panels()->RunAs(plan, params(i));
        CHECK(status.ok()) << status;
      });
      std::printf("  panels of %3d, %d splits: %6.1f us\n", rows, splits, us);
    }
  }
}

void BenchPlans(Bench* bench, const std::vector<int64_t>& rows) {
  for (const Shape& shape : shapes) {
    if (shape.n > 100000) continue;
    const int turns = 300000000 / (shape.n * shape.k * 2) + 1;
    std::vector<std::unique_ptr<DeviceBuffer>> weights;
    for (int i = 0; i < turns; ++i)
      weights.push_back(Random(shape.n * shape.k));
    for (int64_t m : rows) {
      const auto x = Random(m * shape.k);
      const auto y = Device(m * shape.n * 4), scratch = Device(m * shape.n * 2);
      CHECK_CUDA(cudaMemset(y->data(), 0, y->bytes()));
      const auto params = [&](int i) {
        return Params(shape, m, x->data(), weights[i % turns]->data(),
                      y->data());
      };
      const PanelPlan chosen = bench->panels()->PlanOf(m, shape.n, shape.k);
      std::printf(
          "%s, %d rows: panels of %d, %d splits chosen, use %.2f; library "
          "%.1f us, tiles %.1f us\n",
          shape.name, static_cast<int>(m), chosen.rows, chosen.splits,
          bench->panels()->UseOf(m, shape.n, shape.k),
          TimeGraph(
              turns * 2,
              [&](int i) { bench->RunLibrary(params(i), scratch->data()); }),
          TimeGraph(turns * 2, [&](int i) { bench->RunTiles(params(i)); }));
      BenchPlansOf(bench, shape, m, turns * 2, params);
      std::fflush(stdout);
    }
  }
}

void BenchShapes(Bench* bench, const std::vector<int64_t>& rows) {
  std::printf("%-8s %5s %9s %9s %8s %9s %9s\n", "product", "rows", "floor us",
              "library", "TFLOP/s", "tiles", "ours");
  for (const Shape& shape : shapes) {
    const int64_t bytes = shape.n * shape.k * 2;
    const int turns =
        static_cast<int>(std::clamp<int64_t>((300 << 20) / bytes, 2, 12));
    std::vector<std::unique_ptr<DeviceBuffer>> weights;
    for (int i = 0; i < turns; ++i)
      weights.push_back(Random(shape.n * shape.k));
    for (int64_t m : rows) {
      if (shape.n > 100000 && m > 512) continue;
      const auto x = Random(m * shape.k);
      const auto y = Device(m * shape.n * 4), scratch = Device(m * shape.n * 2);
      CHECK_CUDA(cudaMemset(y->data(), 0, y->bytes()));
      const auto params = [&](int i) {
        return Params(shape, m, x->data(), weights[i % turns]->data(),
                      y->data());
      };
      const int count = turns * (m < 512 ? 2 : 1);
      const double library = TimeGraph(
          count, [&](int i) { bench->RunLibrary(params(i), scratch->data()); });
      const double flops = 2.0 * m * shape.n * shape.k;
      std::printf("%-8s %5d %9.1f %9.1f %8.0f ", shape.name,
                  static_cast<int>(m), std::max(bytes / 4.27e6, flops / 790e6),
                  library, flops / library / 1e6);
      std::printf("%9.1f ",
                  TimeGraph(count, [&](int i) { bench->RunTiles(params(i)); }));
      std::printf("%9.1f",
                  TimeGraph(count, [&](int i) { bench->RunOurs(params(i)); }));
      std::printf("\n");
      std::fflush(stdout);
    }
  }
}

void BenchChain(Bench* bench, const std::vector<int64_t>& rows) {
  constexpr int kLayers = 3;
  std::vector<std::unique_ptr<DeviceBuffer>> weights;
  for (int i = 0; i < kLayers * 4; ++i) {
    weights.push_back(Random(shapes[i % 4].n * shapes[i % 4].k));
  }
  const auto norm_weight = Random(4096);
  for (int64_t m : rows) {
    const auto x = Random(m * 14336);
    const auto residual = Random(m * 4096), scratch = Device(m * 28672 * 2);
    const auto y = Device(m * 28672 * 2);
    const auto layer = [&](bool is_ours, int turn) {
      for (int i = 0; i < 4; ++i) {
        const int at = turn % kLayers * 4 + i;
        const Shape& shape = shapes[i];
        if (i % 2 == 0) {
          NormParams norm = {};
          norm.kind = NormKind::kRms;
          norm.x = residual->data();
          norm.x_dtype = DType::kBf16;
          norm.weight = norm_weight->data();
          norm.out = x->data();
          norm.epsilon = 1e-5f;
          norm.width = 4096;
          norm.num_tokens = static_cast<int32_t>(m);
          CHECK_CUDA(LaunchNormCuda(norm, DType::kBf16, stream));
        }
        const PlainGemmParams p =
            Params(shape, m, x->data(), weights[at]->data(),
                   shape.adds ? residual->data() : y->data());
        if (is_ours) {
          bench->RunOurs(p);
        } else {
          bench->RunLibrary(p, scratch->data());
        }
      }
    };
    std::printf(
        "layer of %d rows: library %.1f us, ours %.1f us\n",
        static_cast<int>(m),
        TimeGraph(kLayers * 3, [&](int i) { layer(/*is_ours=*/false, i); }),
        TimeGraph(kLayers * 3, [&](int i) { layer(/*is_ours=*/true, i); }));
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  CHECK_CUDA(cudaSetDevice(0));
  CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  std::vector<int64_t> rows;
  int64_t ranks = 1;
  bool is_chain_only = false, has_plans = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--chain") == 0) {
      is_chain_only = true;
    } else if (std::strcmp(argv[i], "--plans") == 0) {
      has_plans = true;
    } else if (std::strncmp(argv[i], "--ranks=", 8) == 0) {
      ranks = std::atoll(argv[i] + 8);
    } else {
      rows.push_back(std::atoll(argv[i]));
    }
  }
  if (rows.empty()) rows = {1, 32, 64, 128, 256, 512, 768, 1920};
  shapes = ShapesOf(ranks);
  Bench bench;
  if (has_plans) {
    BenchPlans(&bench, rows);
    return 0;
  }
  BenchChain(&bench, rows);
  if (!is_chain_only) BenchShapes(&bench, rows);
  return 0;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) { return quire::Main(argc, argv); }
