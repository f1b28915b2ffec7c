// SPDX-License-Identifier: Apache-2.0
//
// Products of a Llama-3.2-1B in bfloat16, with random weights: how near decode
// comes to the memory's read bandwidth, and prefill to oneDNN's own product.
// Everything is measured in turns, several rounds, so that a noisy neighbour
// meets all of them; the best round of each counts.
//
//   bazel run --config=opt //tests/kernels/cpu:gemm_bench -- [threads] [rounds]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "glog/logging.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/host_limits.h"
#include "kernels/cpu/thread_team.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "tests/kernels/cpu/measure.h"

namespace quire {
namespace {

struct Product {
  const char* name;
  int64_t n;
  int64_t k;
  int count;  // times in one step
};

constexpr Product kProducts[] = {{"qkv", 3072, 2048, 16},
                                 {"o", 2048, 2048, 16},
                                 {"gate_up", 16384, 2048, 16},
                                 {"down", 2048, 8192, 16},
                                 {"head", 128256, 2048, 1}};

// One model's weights: `count` copies of every product, as decode meets them.
class Weights {
 public:
  Weights(Backend* backend, bool with_head) {
    const std::vector<Bf16> source = RandomBf16(16384 * 2048);
    for (const Product& product : kProducts) {
      if (product.count == 1 && !with_head) continue;
      for (int i = 0; i < product.count; ++i) {
        std::vector<HostMatrix> stack;
        const int64_t rows = source.size() / product.k;
        for (int64_t left = product.n; left > 0; left -= rows) {
          stack.push_back({source.data(), DType::kBf16, std::min(left, rows),
                           product.k, product.k});
        }
        auto packed = backend->PackWeight(stack);
        CHECK(packed.ok()) << packed.status();
        bytes_ += product.n * product.k * 2;
        packed_.push_back(*std::move(packed));
      }
    }
  }

  const std::vector<std::unique_ptr<PackedWeight>>& packed() const {
    return packed_;
  }
  int64_t bytes() const { return bytes_; }

 private:
  std::vector<std::unique_ptr<PackedWeight>> packed_;
  int64_t bytes_ = 0;
};

// All products of one step over m rows.
void RunStep(Backend* backend, const Weights& weights, int32_t m,
             const std::vector<Bf16>& x, std::vector<Bf16>* y) {
  for (const auto& weight : weights.packed()) {
    const absl::Status status = backend->Gemm({.x = x.data(),
                                               .x_stride = weight->k(),
                                               .weight = weight.get(),
                                               .bias = nullptr,
                                               .y = y->data(),
                                               .y_stride = weight->n(),
                                               .y_dtype = DType::kBf16,
                                               .m = m});
    CHECK(status.ok()) << status;
  }
}

// oneDNN's own product, with its threads and its choice of weight layout.
class OneDnnProduct {
 public:
  OneDnnProduct(int64_t m, int64_t n, int64_t k)
      : source_(RandomBf16(m * k)), weight_(RandomBf16(n * k)), sink_(m * n) {
    using Tag = dnnl::memory::format_tag;
    const auto type = dnnl::memory::data_type::bf16;
    const dnnl::matmul::desc desc({{m, k}, type, Tag::ab},
                                  {{k, n}, type, Tag::any},
                                  {{m, n}, type, Tag::ab});
    const dnnl::matmul::primitive_desc primitive(desc, engine_);
    matmul_ = dnnl::matmul(primitive);
    dnnl::memory plain({{k, n}, type, Tag::ba}, engine_, weight_.data());
    dnnl::memory packed(primitive.weights_desc(), engine_);
    dnnl::reorder(plain, packed).execute(stream_, plain, packed);
    arguments_ = {{DNNL_ARG_SRC,
                   dnnl::memory(primitive.src_desc(), engine_, source_.data())},
                  {DNNL_ARG_WEIGHTS, packed},
                  {DNNL_ARG_DST,
                   dnnl::memory(primitive.dst_desc(), engine_, sink_.data())}};
  }

  void Run() {
    matmul_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::vector<Bf16> source_, weight_, sink_;
  dnnl::matmul matmul_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

double Gflop(int64_t m, const Product& p) { return 2e-9 * m * p.n * p.k; }

void BenchDecode(Backend* backend, const ThreadTeam& team, int rounds) {
  const Weights weights(backend, /*with_head=*/true);
  const std::vector<uint64_t> gibibyte((1 << 30) / 8, 1);
  const std::vector<int32_t> kBatches = {1, 2, 4, 8, 16, 32, 64};
  const std::vector<Bf16> x = RandomBf16(64 * 8192);
  std::vector<Bf16> y(64 * 128256);
  std::vector<double> best(kBatches.size(), 1e9);
  double read = 0;
  for (int round = 0; round < rounds; ++round) {
    read = std::max(read, ReadBandwidth(team, gibibyte));
    for (size_t i = 0; i < kBatches.size(); ++i) {
      best[i] = std::min(best[i], Seconds([&] {
                           RunStep(backend, weights, kBatches[i], x, &y);
                         }));
      read = std::max(read, ReadBandwidth(team, gibibyte));
    }
  }
  std::printf("read %.1f GB/s; weights %.2f GB\n", read * 1e-9,
              weights.bytes() * 1e-9);
  for (size_t i = 0; i < kBatches.size(); ++i) {
    const double rate = weights.bytes() / best[i];
    std::printf("decode batch %2d: %6.1f ms a step, %5.1f GB/s, %.2f of read\n",
                kBatches[i], best[i] * 1e3, rate * 1e-9, rate / read);
  }
}

void BenchPrefill(Backend* backend, int32_t m, int rounds) {
  const Weights weights(backend, /*with_head=*/false);
  const std::vector<Bf16> x = RandomBf16(m * 8192);
  std::vector<Bf16> y(m * 16384);
  double ours_total = 0, theirs_total = 0, gflop_total = 0;
  for (size_t p = 0; p < std::size(kProducts) - 1; ++p) {
    const Product& product = kProducts[p];
    OneDnnProduct theirs(m, product.n, product.k);
    const auto& weight = weights.packed()[p * 16];
    const GemmParams params = {.x = x.data(),
                               .x_stride = product.k,
                               .weight = weight.get(),
                               .bias = nullptr,
                               .y = y.data(),
                               .y_stride = product.n,
                               .y_dtype = DType::kBf16,
                               .m = m};
    double ours_best = 1e9, theirs_best = 1e9;
    for (int round = 0; round < 2 * rounds; ++round) {
      ours_best = std::min(ours_best,
                           Seconds([&] { CHECK(backend->Gemm(params).ok()); }));
      theirs_best = std::min(theirs_best, Seconds([&] { theirs.Run(); }));
    }
    const double gflop = Gflop(m, product);
    std::printf("m %d %-8s ours %6.1f GFLOP/s, oneDNN %6.1f, ratio %.2f\n", m,
                product.name, gflop / ours_best, gflop / theirs_best,
                theirs_best / ours_best);
    ours_total += ours_best * product.count;
    theirs_total += theirs_best * product.count;
    gflop_total += gflop * product.count;
  }
  std::printf(
      "m %d all layers: ours %.1f GFLOP/s, oneDNN %.1f, ratio %.2f; "
      "%.0f ms, %.0f tokens/s\n",
      m, gflop_total / ours_total, gflop_total / theirs_total,
      theirs_total / ours_total, ours_total * 1e3, m / ours_total);
}

void Bench(CpuGemmKind kind, const char* name, int threads, int rounds) {
  auto backend = CpuBackend::Create(
      {.dtype = DType::kBf16, .num_threads = threads, .gemm = kind});
  CHECK(backend.ok()) << backend.status();
  std::printf("-- %s, %d threads\n", name, threads);
  BenchDecode(backend->get(), ThreadTeam(threads), rounds);
  BenchPrefill(backend->get(), 128, rounds);
  BenchPrefill(backend->get(), 512, rounds);
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : quire::NumUsableCpus();
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 5;
  quire::Bench(quire::CpuGemmKind::kPacked, "packed", threads, rounds);
  quire::Bench(quire::CpuGemmKind::kOneDnn, "oneDNN row tiles", threads,
               rounds);
  return 0;
}
