// SPDX-License-Identifier: Apache-2.0
//
// Paged attention of one layer in bfloat16 on a CUDA device, head dim 128,
// blocks of 16 tokens unless said otherwise: decodes beside the memory's read
// bandwidth measured in the same run, prefills as arithmetic.
//
//   bazel run --config=opt --config=cuda90 //tests/kernels/cuda:attention_bench
//
// Arguments: any of decode, mixed, prefill, skew, blocks, dims; none: all. Or
// "case" and as often as wanted a batch, a context and the new tokens of each
// sequence. SDPA_TIMES names a file of tools/bench/peers/sdpa_bench.py's, to
// print prefills beside. FA3 is FlashAttention-3 as vLLM 0.26 ships it, paged
// by 16, on another H200.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "cuda_runtime.h"
#include "tests/kernels/cuda/attention_bench_case.h"

namespace quire {
namespace {

struct Reference {
  int32_t batch;
  int32_t context;
  double fa3_us;
};

void BenchDecodes(int32_t q_heads, int32_t kv_heads,
                  const std::vector<Reference>& cases, double read,
                  int num_sms) {
  std::printf("decode %d/%d heads\n%6s %7s %9s %7s %6s %8s %6s\n", q_heads,
              kv_heads, "batch", "context", "us", "TB/s", "read", "FA3 us",
              "FA3/us");
  double log_sum = 0;
  for (const Reference& r : cases) {
    const BenchCase c = {q_heads, kv_heads, 128, 16,
                         AlikeSequences(r.batch, r.context, 1)};
    const double seconds = TimeCase(c, num_sms);
    const double rate = KvBytes(c) / seconds;
    std::printf("%6d %7d %9.2f %7.2f %6.3f %8.1f %6.2f\n", r.batch, r.context,
                seconds * 1e6, rate * 1e-12, rate / read, r.fa3_us,
                r.fa3_us / (seconds * 1e6));
    std::fflush(stdout);
    log_sum += std::log(r.fa3_us / (seconds * 1e6));
  }
  std::printf("geometric mean of FA3/us: %.3f\n",
              std::exp(log_sum / cases.size()));
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

BenchCase PlainCase(const std::vector<BenchSequence>& sequences) {
  return {32, 8, 128, 16, sequences};
}

// Decodes beside prompts, and either alone.
void BenchMixed(int num_sms) {
  struct Mix {
    int32_t decodes, context, prefills, prompt;
  };
  for (const Mix& m : {Mix{512, 330, 2, 128},
                       {512, 330, 1, 256},
                       {256, 512, 4, 512},
                       {64, 1024, 1, 2048}}) {
    const auto decodes = AlikeSequences(m.decodes, m.context, 1);
    const auto prefills = AlikeSequences(m.prefills, m.prompt, m.prompt);
    auto both = decodes;
    both.insert(both.end(), prefills.begin(), prefills.end());
    const double mixed = TimeCase(PlainCase(both), num_sms);
    const double serial = TimeCase(PlainCase(decodes), num_sms) +
                          TimeCase(PlainCase(prefills), num_sms);
    std::printf(
        "%d decodes x %d, %d prompts x %d: %.1f us; one after the other %.1f: "
        "%.2f\n",
        m.decodes, m.context, m.prefills, m.prompt, mixed * 1e6, serial * 1e6,
        serial / mixed);
  }
}

void BenchSkew(double read, int num_sms) {
  // Zipf lengths of 64 sequences beside as many tokens in equal ones.
  std::vector<BenchSequence> lengths;
  double sum = 0;
  for (int i = 1; i <= 64; ++i) sum += 1.0 / i;
  int64_t total = 0;
  for (int i = 1; i <= 64; ++i) {
    lengths.push_back({static_cast<int32_t>(65536 / sum / i) + 1, 1});
    total += lengths.back().context;
  }
  const BenchCase skewed = PlainCase(lengths);
  const double a = TimeCase(skewed, num_sms);
  const double b = TimeCase(
      PlainCase(AlikeSequences(64, static_cast<int32_t>(total / 64), 1)),
      num_sms);
  std::printf("skewed lengths %.2f us, %.3f of read; equal %.2f us: %.3f\n",
              a * 1e6, KvBytes(skewed) / a / read, b * 1e6, a / b);
}

void BenchBlocks(double read, int num_sms) {
  for (int32_t block_size : {12, 16, 32, 64, 128, 256, 2048}) {
    const BenchCase c = {32, 8, 128, block_size, AlikeSequences(64, 2048, 1)};
    const double seconds = TimeCase(c, num_sms);
    std::printf("64 x 2048, block size %4d: %7.2f us, %.3f of read\n",
                block_size, seconds * 1e6, KvBytes(c) / seconds / read);
  }
}

void BenchHeadDims(double read, int num_sms) {
  for (int32_t head_dim : {64, 80, 96, 128, 256}) {
    for (int32_t group : {1, 4, 8, 16}) {
      const BenchCase c = {8 * group, 8, head_dim, 16,
                           AlikeSequences(32, 2048, 1)};
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
    BenchCase c = PlainCase(AlikeSequences(f.batch, f.context, f.new_tokens));
    const double seconds = TimeCase(c, num_sms);
    c.is_deterministic = true;
    const double deterministic = TimeCase(c, num_sms);
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

void BenchChosen(std::istringstream numbers, double read, int num_sms) {
  int batch = 0, context = 0, new_tokens = 0;
  while (numbers >> batch >> context >> new_tokens) {
    const BenchCase c = PlainCase(AlikeSequences(batch, context, new_tokens));
    const double seconds = TimeCase(c, num_sms);
    std::printf("%d x %d, %d new: %.2f us, %.3f of read\n", batch, context,
                new_tokens, seconds * 1e6, KvBytes(c) / seconds / read);
  }
}

void Bench(const std::string& what) {
  cudaDeviceProp device;
  if (cudaGetDeviceProperties(&device, 0) != cudaSuccess) {
    std::fprintf(stderr, "no CUDA device\n");
    std::exit(1);
  }
  const int num_sms = device.multiProcessorCount;
  const double read = ReadBandwidth(num_sms);
  std::printf("%s, %d multiprocessors, read %.3f TB/s\n", device.name, num_sms,
              read * 1e-12);
  const auto wants = [&](const char* part) {
    return what.empty() || what.find(part) != std::string::npos;
  };
  if (what.rfind("case ", 0) == 0) {
    BenchChosen(std::istringstream(what.substr(5)), read, num_sms);
    return;
  }
  if (wants("decode")) BenchPlainDecodes(read, num_sms);
  if (wants("mixed")) BenchMixed(num_sms);
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
