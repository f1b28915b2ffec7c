// SPDX-License-Identifier: Apache-2.0
//
// From logits to tokens on a GPU, beside what reading the logits once takes at
// a copy's rate. tools/bench/peers/sampling_bench.py times PyTorch's way.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "kernels/cuda/choose_tokens.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/shaped_choice.h"
#include "kernels/listed_choice.h"
#include "kernels/nucleus_choice.h"
#include "tests/kernels/cuda/bench_cases.h"
#include "tests/kernels/cuda/bench_line.h"

namespace quire {
namespace {

#define CHECK_CUDA(expression) CHECK_EQ(expression, cudaSuccess)

constexpr int32_t kVocab = 128256;
constexpr int kBuffers = 3;  // in turns, so that none stays in the cache
constexpr int64_t kStride = 1024;

cudaStream_t stream;
double bandwidth;  // bytes a microsecond, of a copy

template <typename T>
std::unique_ptr<DeviceBuffer> ToDevice(const std::vector<T>& host) {
  auto buffer = AllocateCuda(host.size() * sizeof(T));
  CHECK(buffer.ok()) << buffer.status();
  CHECK_CUDA(cudaMemcpy((*buffer)->data(), host.data(), host.size() * sizeof(T),
                        cudaMemcpyHostToDevice));
  return *std::move(buffer);
}

// Microseconds of one call of many in a row.
double Time(const std::function<void(int)>& enqueue) {
  constexpr int kCalls = 12;
  cudaEvent_t begin, end;
  CHECK_CUDA(cudaEventCreate(&begin));
  CHECK_CUDA(cudaEventCreate(&end));
  std::vector<double> times;
  for (int run = 0; run < 6; ++run) {
    CHECK_CUDA(cudaEventRecord(begin, stream));
    for (int i = 0; i < kCalls; ++i) enqueue(i);
    CHECK_CUDA(cudaEventRecord(end, stream));
    CHECK_CUDA(cudaEventSynchronize(end));
    float ms = 0;
    CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
    if (run > 0) times.push_back(ms * 1000 / kCalls);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void MeasureBandwidth() {
  const int64_t bytes = int64_t{1} << 30;
  const auto from = AllocateCuda(bytes), to = AllocateCuda(bytes);
  CHECK(from.ok() && to.ok());
  CHECK_CUDA(cudaMemset((*from)->data(), 0x3c, bytes));
  const double us = Time([&](int) {
    CHECK_CUDA(cudaMemcpyAsync((*to)->data(), (*from)->data(), bytes,
                               cudaMemcpyDeviceToDevice, stream));
  });
  bandwidth = 2.0 * bytes / us;
  std::printf("copy of 1 GiB: %.0f GB/s\n", bandwidth / 1e3);
}

// `zipf`: as a trained model's fall with their rank; else normal, which no
// nucleus is small in.
std::unique_ptr<DeviceBuffer> Logits(int rows, bool zipf, int seed) {
  constexpr int kKinds = 16;
  std::mt19937 random(seed);
  std::vector<std::vector<float>> kinds(kKinds, std::vector<float>(kVocab));
  for (std::vector<float>& row : kinds) {
    std::normal_distribution<float> normal;
    for (int i = 0; i < kVocab; ++i) {
      row[i] = zipf ? -1.4f * std::log(i + 1.0f) : normal(random);
    }
    std::shuffle(row.begin(), row.end(), random);
  }
  std::vector<float> all;
  all.reserve(int64_t{rows} * kVocab);
  for (int row = 0; row < rows; ++row) {
    const std::vector<float>& kind = kinds[row % kKinds];
    all.insert(all.end(), kind.begin(), kind.end());
  }
  return ToDevice(all);
}

struct Case {
  std::string name;
  ShapedRow row;
  bool is_penalised = false;
  int num_logprobs = -1;
  int every = 1;  // one row of so many is such; the others plain
};

ShapedRow Row(int32_t top_k, float top_p, float min_p) {
  ShapedRow row = {};
  row.temperature = 0.8f;
  row.top_k = top_k;
  row.top_p = top_p;
  row.min_p = min_p;
  row.first_allowed = -1;
  return row;
}

// Yields its microseconds.
double Bench(const Case& c, int rows, bool zipf,
             const std::vector<std::unique_ptr<DeviceBuffer>>& logits) {
  std::vector<ShapedRow> shaped;
  std::vector<EditRow> edits;
  std::vector<LogprobRow> logprob_rows;
  std::vector<SeenToken> seen(rows * kStride);
  std::mt19937 random(1);
  for (int i = 0; i < rows; i += c.every) {
    ShapedRow row = c.row;
    row.seed = i;
    row.position = 100;
    row.row = row.slot = i;
    shaped.push_back(row);
    if (c.num_logprobs >= 0) logprob_rows.push_back({i, c.num_logprobs});
    if (!c.is_penalised) continue;
    EditRow edit = {};
    edit.row = edit.slot = i;
    edit.first_saved = -1;
    edit.is_penalised = 1;
    edit.repetition_penalty = 1.1f;
    edits.push_back(edit);
    SeenToken* const list = &seen[i * kStride];
    list[0] = {500, 0};
    for (int j = 1; j <= 500; ++j) {
      list[j] = {static_cast<int32_t>(j * 250 + random() % 250), 0};
    }
  }
  const bool is_filtered =
      c.row.top_k > 0 || c.row.top_p < 1 || c.row.min_p > 0;
  const auto device_rows = ToDevice(shaped), device_edits = ToDevice(edits),
             device_seen = ToDevice(seen),
             device_wishes = ToDevice(logprob_rows),
             logprobs = ToDevice(std::vector<TokenLogprobs>(rows)),
             tokens = ToDevice(std::vector<int32_t>(2 * rows));
  ShapedChoiceParams p = {};
  p.num_vocab = kVocab;
  p.num_edits = static_cast<int32_t>(edits.size());
  p.edits = device_edits->as<EditRow>();
  p.seen = device_seen->as<SeenToken>();
  p.seen_stride = kStride;
  p.rows = device_rows->as<ShapedRow>();
  (is_filtered ? p.num_filtered : p.num_unfiltered) =
      static_cast<int32_t>(shaped.size());
  p.all_have_top_k = c.row.top_k > 0;
  p.logprob_rows = device_wishes->as<LogprobRow>();
  p.logprobs = logprobs->as<TokenLogprobs>();
  p.num_logprobs = static_cast<int32_t>(logprob_rows.size());
  p.tokens = tokens->as<int32_t>();
  p.by_slot = p.tokens + rows;
  CudaShapedChoice choice(stream, 132);
  const double us = Time([&](int i) {
    p.logits = logits[i % kBuffers]->as<float>();
    const absl::Status status = choice.Run(p);
    CHECK(status.ok()) << status;
  });
  const double floor = shaped.size() * 4.0 * kVocab / bandwidth;
  PrintBenchLine({SamplingName(c.name, rows, zipf), us, {{"limit", floor}}});
  return us;
}

// What one of several ranks does of rows with a top_p, without what travels;
// from whole rows it took `whole_us`.
void BenchNuclei(int rows, int num_shards, bool zipf, double whole_us,
                 const std::vector<std::unique_ptr<DeviceBuffer>>& logits) {
  const int32_t columns = kVocab / num_shards;
  std::vector<ShapedRow> shaped(rows, Row(0, 0.9f, 0));
  for (int i = 0; i < rows; ++i) {
    shaped[i].seed = shaped[i].row = shaped[i].slot = i;
  }
  const int64_t most = rows * NucleusBytes(NucleusStage::kEighths);
  const auto device_rows = ToDevice(shaped),
             states = ToDevice(std::vector<NucleusState>(
                 num_shards * kNumNucleusStages * rows)),
             tokens = ToDevice(std::vector<int32_t>(2 * rows));
  std::vector<std::unique_ptr<DeviceBuffer>> said;
  for (int stage = 0; stage < kNumNucleusStages; ++stage) {
    said.push_back(ToDevice(std::vector<char>(num_shards * most)));
  }
  CudaShapedChoice choice(stream, 132);
  const auto run = [&](int i, int stage, int shard) {
    NucleusParams p = {};
    p.stage = static_cast<NucleusStage>(stage);
    p.logits =
        logits[i % kBuffers]->as<float>() + int64_t{shard} * rows * columns;
    p.num_vocab = columns;
    p.first_id = shard * columns;
    p.shard = shard;
    p.num_shards = num_shards;
    p.rows = device_rows->as<ShapedRow>();
    p.num_rows = rows;
    p.states = states->as<NucleusState>() + shard * kNumNucleusStages * rows;
    p.heard = stage == 0 ? nullptr : said[stage - 1]->data();
    p.said = said[stage]->as<char>() + shard * rows * NucleusBytes(p.stage);
    p.tokens = tokens->as<int32_t>();
    p.by_slot = p.tokens + rows;
    const absl::Status status = choice.ChooseFromNuclei(p);
    CHECK(status.ok()) << status;
  };
  for (int stage = 0; stage < kNumNucleusStages; ++stage) {
    for (int shard = 0; shard < num_shards; ++shard) run(0, stage, shard);
  }
  // What other shards say stays that of the first buffer.
  const double us = Time([&](int i) {
    for (int stage = 0; stage < kNumNucleusStages; ++stage) {
      run(i, stage, i % num_shards);
    }
  });
  const double floor = rows * 4.0 * columns / bandwidth;
  PrintBenchLine(
      {SamplingName("nuclei of shards: " + std::to_string(num_shards), rows,
                    zipf),
       us,
       {{"limit", floor}, {"whole rows", whole_us}}});
}

// What one of eight ranks does of rows of which top_k leaves 50, without what
// travels; from whole rows it took `whole_us`.
void BenchLists(int rows, bool zipf, double whole_us,
                const std::vector<std::unique_ptr<DeviceBuffer>>& logits) {
  constexpr int kShards = 8, kTopK = 50, kColumns = kVocab / kShards;
  std::vector<ShapedRow> shaped(rows, Row(kTopK, 1, 0));
  for (int i = 0; i < rows; ++i) {
    shaped[i].seed = shaped[i].row = shaped[i].slot = i;
  }
  const int64_t shard_tokens = int64_t{rows} * (1 + kTopK);
  const auto device_rows = ToDevice(shaped),
             lists = ToDevice(std::vector<ListedToken>(kShards * shard_tokens)),
             tokens = ToDevice(std::vector<int32_t>(2 * rows));
  CudaShapedChoice choice(stream, 132);
  const auto list = [&](int i, int shard) {
    const absl::Status status =
        choice.List({.logits = logits[i % kBuffers]->as<float>() +
                               int64_t{shard} * rows * kColumns,
                     .num_vocab = kColumns,
                     .first_id = shard * kColumns,
                     .rows = device_rows->as<ShapedRow>(),
                     .num_rows = rows,
                     .max_tokens = kTopK,
                     .lists = lists->as<ListedToken>() + shard * shard_tokens});
    CHECK(status.ok()) << status;
  };
  for (int shard = 0; shard < kShards; ++shard) list(/*i=*/0, shard);
  const double us = Time([&](int i) {
    list(i, i % kShards);
    const absl::Status status =
        choice.Merge({.lists = lists->as<ListedToken>(),
                      .rows = device_rows->as<ShapedRow>(),
                      .tokens = tokens->as<int32_t>(),
                      .by_slot = tokens->as<int32_t>() + rows,
                      .num_shards = kShards,
                      .num_rows = rows,
                      .max_tokens = kTopK});
    CHECK(status.ok()) << status;
  });
  const double floor = rows * 4.0 * kColumns / bandwidth;
  PrintBenchLine({SamplingName("lists of eight shards", rows, zipf),
                  us,
                  {{"limit", floor}, {"whole rows", whole_us}}});
}

int Main() {
  CHECK_CUDA(cudaSetDevice(0));
  CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  MeasureBandwidth();
  const std::vector<Case> cases = {
      {"temperature", Row(0, 1, 0)},
      {"top_k 50", Row(50, 1, 0)},
      {"top_p 0.9", Row(0, 0.9f, 0)},
      {"top_k 50 and top_p 0.9", Row(50, 0.9f, 0)},
      {"min_p 0.05", Row(0, 1, 0.05f)},
      {"penalties of 500 tokens", Row(0, 1, 0), true},
      {"20 logprobs", Row(0, 1, 0), false, 20},
      {"top_p, penalties, 5 logprobs", Row(0, 0.9f, 0), true, 5},
      {"top_p, one row of 16", Row(0, 0.9f, 0), false, -1, 16},
  };
  for (int rows : {1, 32, 256}) {
    for (bool zipf : {true, false}) {
      std::vector<std::unique_ptr<DeviceBuffer>> logits;
      for (int i = 0; i < kBuffers; ++i)
        logits.push_back(Logits(rows, zipf, i));
      for (const Case& c : cases) {
        if (!zipf && &c - cases.data() > 4) continue;
        const double us = Bench(c, rows, zipf, logits);
        if (c.name == "top_k 50") BenchLists(rows, zipf, us, logits);
        if (c.name != "top_p 0.9") continue;
        for (int shards : {2, 8}) BenchNuclei(rows, shards, zipf, us, logits);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace quire

int main() { return quire::Main(); }
