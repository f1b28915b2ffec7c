// SPDX-License-Identifier: Apache-2.0
//
// Products by our kernels beside cuBLASLt's first guess and its tuned choice,
// on weights that come from memory: each shape of Llama-3.1-8B alone, and a
// layer's chain of products as a model runs it.
//
//   product_bench [--chain | --plans] [--ranks=N] [--quick | ROWS...]
//
// With --plans, by every plan of panels that keeps most multiprocessors busy.
// With --ranks, one rank's part of the weights.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
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
#include "tests/kernels/cuda/bench_cases.h"
#include "tests/kernels/cuda/bench_line.h"

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

// What weights and products need at least.
double LimitUs(const Shape& shape, int64_t m) {
  const double products = static_cast<double>(shape.n) * shape.k;
  return std::max(products * 2 / kCopyBytesPerUs,
                  2 * m * products / kTensorFlopsPerUs);
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
    for (const bool is_tuned : {false, true}) {
      auto library = LtGemm::Create({.is_tuned = is_tuned}, stream);
      CHECK(library.ok()) << library.status();
      (is_tuned ? tuned_ : guess_) = *std::move(library);
    }
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

  LtGemm* guess() { return guess_.get(); }
  LtGemm* tuned() { return tuned_.get(); }

  // The library cannot apply gates: an activation follows.
  static void RunLibrary(LtGemm* library, PlainGemmParams p, void* scratch) {
    void* const y = p.y;
    const bool is_gated = p.is_gated;
    if (is_gated) {
      p.is_gated = false;
      p.y = scratch;
      p.y_stride = p.n;
    }
    const absl::Status status = library->Run(p);
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

  // In mixed clusters, where the device runs such.
  void RunMixed(const PlainGemmParams& p) {
    const absl::Status status =
        tiles_->CanMix() ? tiles_->RunMixed(p) : tiles_->Run(p);
    CHECK(status.ok()) << status;
  }

 private:
  std::unique_ptr<LtGemm> guess_, tuned_;
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
          TimeGraph(turns * 2,
                    [&](int i) {
                      bench->RunLibrary(bench->tuned(), params(i),
                                        scratch->data());
                    }),
          TimeGraph(turns * 2, [&](int i) { bench->RunTiles(params(i)); }));
      BenchPlansOf(bench, shape, m, turns * 2, params);
      std::fflush(stdout);
    }
  }
}

void BenchShapes(Bench* bench, const std::vector<int64_t>& rows) {
  for (const Shape& shape : shapes) {
    const int64_t bytes = shape.n * shape.k * 2;
    const int turns =
        static_cast<int>(std::clamp<int64_t>((300 << 20) / bytes, 2, 12));
    std::vector<std::unique_ptr<DeviceBuffer>> weights;
    for (int i = 0; i < turns; ++i)
      weights.push_back(Random(shape.n * shape.k));
    for (int64_t m : rows) {
      if (shape.n > 100000 && m > kMaxHeadRows) continue;
      const auto x = Random(m * shape.k);
      const auto y = Device(m * shape.n * 4), scratch = Device(m * shape.n * 2);
      CHECK_CUDA(cudaMemset(y->data(), 0, y->bytes()));
      const auto params = [&](int i) {
        return Params(shape, m, x->data(), weights[i % turns]->data(),
                      y->data());
      };
      const int count = turns * (m < 512 ? 2 : 1);
      const auto time_library = [&](LtGemm* library) {
        return TimeGraph(count, [&](int i) {
          bench->RunLibrary(library, params(i), scratch->data());
        });
      };
      const double guess = time_library(bench->guess());
      const double tuned = time_library(bench->tuned());
      const double tiles =
          TimeGraph(count, [&](int i) { bench->RunTiles(params(i)); });
      const double mixed =
          TimeGraph(count, [&](int i) { bench->RunMixed(params(i)); });
      const double ours =
          TimeGraph(count, [&](int i) { bench->RunOurs(params(i)); });
      PrintBenchLine(
          {ProductName(shape.name, m),
           ours,
           {{"limit", LimitUs(shape, m)},
            {"Lt guess", guess},
            {"Lt tuned", tuned}},
           absl::StrFormat("tiles %.1f us, mixed %.1f us, ours %.0f TFLOP/s",
                           tiles, mixed,
                           2.0 * m * shape.n * shape.k / ours / 1e6)});
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
    // Ours without a library.
    const auto layer = [&](LtGemm* library, int turn) {
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
        if (library == nullptr) {
          bench->RunOurs(p);
        } else {
          bench->RunLibrary(library, p, scratch->data());
        }
      }
    };
    const auto time = [&](LtGemm* library) {
      return TimeGraph(kLayers * 3, [&](int i) { layer(library, i); });
    };
    double limit = 0;
    for (int i = 0; i < 4; ++i) limit += LimitUs(shapes[i], m);
    const double guess = time(bench->guess()), tuned = time(bench->tuned());
    PrintBenchLine(
        {ProductLayerName(m),
         time(nullptr),
         {{"limit", limit}, {"Lt guess", guess}, {"Lt tuned", tuned}}});
  }
}

struct Options {
  bool is_chain_only = false, has_plans = false;
  int64_t ranks = 1;
  std::vector<int64_t> rows;
};

// Exits at what is no option and no count.
Options ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    int64_t number = 0;
    if (arg == "--chain") {
      options.is_chain_only = true;
    } else if (arg == "--plans") {
      options.has_plans = true;
    } else if (arg == "--quick") {
      options.rows = FewProductRows();
    } else if (const bool is_ranks = absl::ConsumePrefix(&arg, "--ranks=");
               absl::SimpleAtoi(arg, &number) && number > 0) {
      if (is_ranks) {
        options.ranks = number;
      } else {
        options.rows.push_back(number);
      }
    } else {
      std::fprintf(stderr, "product_bench: neither option nor rows: %s\n",
                   argv[i]);
      std::exit(2);
    }
  }
  if (options.rows.empty()) options.rows = ProductRows();
  return options;
}

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  CHECK_CUDA(cudaSetDevice(0));
  CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  shapes = ShapesOf(options.ranks);
  Bench bench;
  if (options.has_plans) {
    BenchPlans(&bench, options.rows);
    return 0;
  }
  BenchChain(&bench, options.rows);
  if (!options.is_chain_only) BenchShapes(&bench, options.rows);
  return 0;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) { return quire::Main(argc, argv); }
