// SPDX-License-Identifier: Apache-2.0
//
// Paged attention of one layer in bfloat16 on a CUDA device, head dim 128,
// blocks of 16 tokens unless said otherwise: decodes beside the memory's read
// bandwidth measured in the same run, prefills beside tensor cores' rate.
//
//   bazel run --config=opt --config=cuda90 //tests/kernels/cuda:attention_bench
//
// Arguments: any of decode, mixed, prefill, skew, blocks, dims; none: all. Or
// "case" and as often as wanted a batch, a context and the new tokens of each
// sequence.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "cuda_runtime.h"
#include "tests/kernels/cuda/attention_bench_case.h"
#include "tests/kernels/cuda/bench_cases.h"
#include "tests/kernels/cuda/bench_line.h"

namespace quire {
namespace {

std::string Remark(const char* format, double number) {
  char text[64];
  std::snprintf(text, sizeof(text), format, number);
  return text;
}

// Of a case that nothing but reading keys and values bounds. `read` is in bytes
// a second.
void PrintReads(const std::string& name, const BenchCase& c, double seconds,
                double read, std::vector<BenchLine::Other> peers = {}) {
  peers.insert(peers.begin(), {"limit", KvBytes(c) / read * 1e6});
  PrintBenchLine({name, seconds * 1e6, peers,
                  Remark("%.2f TB/s", KvBytes(c) / seconds * 1e-12)});
}

void BenchDecodes(double read, int num_sms) {
  for (const DecodeCase& d : DecodeCases()) {
    const BenchCase c = {d.num_q_heads, d.num_kv_heads, 128, 16,
                         AlikeSequences(d.batch, d.context, 1)};
    PrintReads(NameOf(d), c, TimeCase(c, num_sms), read);
  }
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
    PrintBenchLine({"mixed, " + std::to_string(m.decodes) + " decodes x " +
                        std::to_string(m.context) + " and " +
                        std::to_string(m.prefills) + " prompts x " +
                        std::to_string(m.prompt),
                    mixed * 1e6,
                    {{"apart", serial * 1e6}}});
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
  const double alike = TimeCase(
      PlainCase(AlikeSequences(64, static_cast<int32_t>(total / 64), 1)),
      num_sms);
  PrintReads("skewed lengths, 64 sequences", skewed, TimeCase(skewed, num_sms),
             read, {{"alike", alike * 1e6}});
}

void BenchBlocks(double read, int num_sms) {
  for (int32_t block_size : {12, 16, 32, 64, 128, 256, 2048}) {
    const BenchCase c = {32, 8, 128, block_size, AlikeSequences(64, 2048, 1)};
    PrintReads("blocks of " + std::to_string(block_size) + ", 64 x 2048", c,
               TimeCase(c, num_sms), read);
  }
}

void BenchHeadDims(double read, int num_sms) {
  for (int32_t head_dim : {64, 80, 96, 128, 256}) {
    for (int32_t group : {1, 4, 8, 16}) {
      const BenchCase c = {8 * group, 8, head_dim, 16,
                           AlikeSequences(32, 2048, 1)};
      PrintReads("head dim " + std::to_string(head_dim) + ", group " +
                     std::to_string(group) + ", 32 x 2048",
                 c, TimeCase(c, num_sms), read);
    }
  }
}

void BenchPrefills(double read, int num_sms) {
  for (const PrefillCase& p : PrefillCases()) {
    BenchCase c = PlainCase(AlikeSequences(p.batch, p.context, p.new_tokens));
    const double pairs =
        p.batch * (1.0 * p.new_tokens * (p.context - p.new_tokens) +
                   0.5 * p.new_tokens * (p.new_tokens + 1.0));
    const double flops = pairs * 4 * 128 * 32;
    const double limit =
        std::max(flops / kTensorFlopsPerUs, KvBytes(c) / read * 1e6);
    const auto print = [&](const std::string& name) {
      const double us = TimeCase(c, num_sms) * 1e6;
      PrintBenchLine({name, us, {{"limit", limit}},
                      Remark("%.1f TFLOP/s", flops / us * 1e-6)});
    };
    print(NameOf(p));
    c.is_deterministic = true;
    print(NameOf(p) + ", deterministic");
  }
}

void BenchChosen(std::istringstream numbers, double read, int num_sms) {
  int batch = 0, context = 0, new_tokens = 0;
  while (numbers >> batch >> context >> new_tokens) {
    const BenchCase c = PlainCase(AlikeSequences(batch, context, new_tokens));
    PrintReads("case " + std::to_string(batch) + " x " +
                   std::to_string(new_tokens) + " of " +
                   std::to_string(context),
               c, TimeCase(c, num_sms), read);
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
  if (wants("decode")) BenchDecodes(read, num_sms);
  if (wants("mixed")) BenchMixed(num_sms);
  if (wants("skew")) BenchSkew(read, num_sms);
  if (wants("blocks")) BenchBlocks(read, num_sms);
  if (wants("dims")) BenchHeadDims(read, num_sms);
  if (wants("prefill")) BenchPrefills(read, num_sms);
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  std::string what;
  for (int i = 1; i < argc; ++i) what += std::string(argv[i]) + " ";
  quire::Bench(what);
  return 0;
}
