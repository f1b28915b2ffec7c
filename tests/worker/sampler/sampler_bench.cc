// SPDX-License-Identifier: Apache-2.0
//
// What sampling costs on a CPU: 64 sequences over 128,256 tokens, of which some
// ask for everything (biases, penalties, words, a mask, filters, log
// probabilities). A batch of both should cost what its parts cost alone: the
// counter `of_its_parts` is their ratio.
//
// bazel run --config=opt //tests/worker/sampler:sampler_bench
#include <time.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "glog/logging.h"
#include "kernels/cpu/cpu_backend.h"
#include "worker/collective/local.h"
#include "worker/sampler/sampler.h"

namespace quire {
namespace {

constexpr int32_t kVocab = 128'256;
constexpr int32_t kNumSeqs = 64;

SlotSampling Everything() {
  SlotSampling sampling;
  sampling.temperature = 0.8f;
  sampling.top_p = 0.95f;
  sampling.min_p = 0.01f;
  sampling.repetition_penalty = 1.2f;
  sampling.presence_penalty = 0.5f;
  sampling.frequency_penalty = 0.5f;
  sampling.num_logprobs = 20;
  for (TokenId id = 0; id < 300; ++id) sampling.logit_bias.push_back({id, 1});
  for (TokenId id = 0; id < 64; ++id) {
    sampling.bad_words.push_back({500 + id, 7000 + id});
  }
  sampling.needs_mask = true;
  return sampling;
}

// Of computing: others on the machine do not count.
double ThreadSeconds() {
  timespec now;
  CHECK_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
  return static_cast<double>(now.tv_sec) + 1e-9 * now.tv_nsec;
}

class Bench {
 public:
  Bench() : group_(1), logits_(int64_t{kNumSeqs} * kVocab) {
    CpuBackendOptions options;
    options.num_threads = 1;  // whose own time is what counts
    auto backend = CpuBackend::Create(options);
    CHECK(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    auto sampler = Sampler::Create(backend_.get(), group_.collective(0),
                                   {0, kVocab}, kNumSeqs);
    CHECK(sampler.ok()) << sampler.status();
    sampler_ = *std::move(sampler);
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 2);
    for (float& logit : logits_) logit = normal(random);
  }

  // Seconds of computing that a step of these takes.
  double Run(int32_t num_plain, int32_t num_full) {
    SlotLimits limits;
    limits.max_num_seqs = kNumSeqs;
    limits.max_model_len = limits.block_size = 2048;
    limits.num_blocks = kNumSeqs;
    limits.vocab_size = kVocab;
    SlotStates slots(limits);
    StepPlan plan;
    std::vector<SlotId> ids;
    for (int32_t i = 0; i < num_plain + num_full; ++i) {
      AdmittedSlot admitted;
      admitted.slot = SlotId(i);
      for (TokenId token = 0; token < 1000; ++token) {
        admitted.tokens.push_back(token * 97 % kVocab);
      }
      admitted.num_prompt_tokens = 500;
      if (i >= num_plain) admitted.sampling = Everything();
      admitted.sampling.seed = i;
      admitted.cache = std::vector<BlockId>{BlockId(i)};
      plan.admitted.push_back(admitted);
      ids.push_back(SlotId(i));
      if (i < num_plain) continue;
      plan.masks.push_back(
          {SlotId(i), std::vector<uint32_t>(kVocab / 32, 0xfff7fffeu)});
    }
    CHECK(slots.Apply(plan).ok());
    double best = 1e9;
    for (int repeat = 0; repeat < 5; ++repeat) {
      const double begin = ThreadSeconds();
      CHECK(sampler_->Sample(logits_.data(), ids, slots, &out_).ok());
      best = std::min(best, ThreadSeconds() - begin);
    }
    return best;
  }

 private:
  LocalGroup group_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Sampler> sampler_;
  std::vector<float> logits_;
  SampledTokens out_;
};

void BM_MixedBatch(benchmark::State& state) {
  static Bench* const bench = new Bench();
  const auto num_full = static_cast<int32_t>(state.range(0));
  const int32_t num_plain = kNumSeqs - num_full;
  for (auto _ : state) {
    const double plain = bench->Run(num_plain, 0);
    const double full = bench->Run(0, num_full);
    const double mixed = bench->Run(num_plain, num_full);
    state.SetIterationTime(mixed);
    state.counters["plain_us"] = plain * 1e6;
    state.counters["full_us"] = full * 1e6;
    state.counters["of_its_parts"] = mixed / (plain + full);
  }
}
BENCHMARK(BM_MixedBatch)
    ->Arg(1)
    ->Arg(8)
    ->Arg(32)
    ->UseManualTime()
    ->Iterations(2)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace quire
