// SPDX-License-Identifier: Apache-2.0
//
// What structured output costs over 128,000 tokens: arranging the vocabulary
// once, compiling a schema for each request, a mask for each token.
//
// bazel run --config=opt //tests/common/text:grammar_bench
#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "benchmark/benchmark.h"
#include "common/text/grammar.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

namespace quire {
namespace {

constexpr int32_t kVocabSize = 128'000;

constexpr char kSchema[] = R"({"type": "object", "properties": {
    "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0},
    "tags": {"type": "array", "items": {"type": "string"}},
    "address": {"type": "object", "properties": {
        "street": {"type": "string"}, "zip": {"type": "string",
        "pattern": "^[0-9]{5}$"}}, "required": ["street", "zip"]}},
    "required": ["name", "age", "tags", "address"],
    "additionalProperties": false})";

// Words of one to eight of these characters, all single ones first.
std::unique_ptr<Tokenizer> MakeTokenizer() {
  const std::string letters =
      "etaoinshrdlucmfwypvbgkjqxzETAOINSHRDLU0123456789.,;:!?()[]{}\"'/-_";
  std::mt19937 random(1);
  nlohmann::json vocab;
  int32_t next = 0;
  const auto add = [&](const std::string& piece) {
    if (!vocab.contains(piece)) vocab[piece] = next++;
  };
  for (const char c : letters) add(std::string(1, c));
  add("Ġ");
  while (next < kVocabSize - 1) {
    std::string piece = random() % 2 == 0 ? "Ġ" : "";
    for (size_t n = 1 + random() % 8; n > 0; --n) {
      piece += letters[random() % (random() % 4 == 0 ? letters.size() : 20)];
    }
    add(piece);
  }
  add("<end>");
  const nlohmann::json added = {{"id", kVocabSize - 1}, {"content", "<end>"},
                                {"special", true},      {"single_word", false},
                                {"lstrip", false},      {"rstrip", false},
                                {"normalized", false}};
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", true},
                                     {"use_regex", true}};
  const nlohmann::json json = {
      {"version", "1.0"},
      {"added_tokens", {added}},
      {"pre_tokenizer", byte_level},
      {"decoder", byte_level},
      {"model", {{"type", "WordLevel"}, {"unk_token", "e"}, {"vocab", vocab}}}};
  auto tokenizer = Tokenizer::FromJson(json.dump());
  CHECK(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

const Tokenizer& SharedTokenizer() {
  static const Tokenizer* const tokenizer = MakeTokenizer().release();
  return *tokenizer;
}

const GrammarVocab& SharedVocab() {
  static const GrammarVocab* const vocab =
      GrammarVocab::Create(SharedTokenizer(), kVocabSize, {kVocabSize - 1})
          ->release();
  return *vocab;
}

void BM_ArrangeVocabulary(benchmark::State& state) {
  SharedTokenizer();
  for (auto _ : state) {
    const auto vocab =
        GrammarVocab::Create(SharedTokenizer(), kVocabSize, {kVocabSize - 1});
    CHECK(vocab.ok()) << vocab.status();
  }
}
BENCHMARK(BM_ArrangeVocabulary)->Unit(benchmark::kMillisecond);

void BM_CompileSchema(benchmark::State& state) {
  SharedVocab();
  for (auto _ : state) {
    const auto grammar = SharedVocab().Compile(RuleKind::kJsonSchema, kSchema);
    CHECK(grammar.ok()) << grammar.status();
  }
}
BENCHMARK(BM_CompileSchema)->Unit(benchmark::kMillisecond);

// Accepting a random token and the mask after it, over whole texts.
void BM_Mask(benchmark::State& state) {
  auto first = SharedVocab().Compile(RuleKind::kJsonSchema, kSchema);
  CHECK(first.ok()) << first.status();
  std::mt19937 random(2);
  Grammar grammar = *first->Clone();
  std::vector<uint32_t> mask = *grammar.NextTokens();
  double most = 0;
  int num_tokens = 0;
  for (auto _ : state) {
    // The next allowed token from a random one on.
    TokenId token = random() % kVocabSize;
    while ((mask[token / 32] >> (token % 32) & 1) == 0) {
      token = (token + 1) % kVocabSize;
    }
    const absl::Time begin = absl::Now();
    CHECK(grammar.Accept({&token, 1}).ok());
    mask = *grammar.NextTokens();
    most = std::max(most, absl::ToDoubleMicroseconds(absl::Now() - begin));
    if (token == kVocabSize - 1 || ++num_tokens % 200 == 0) {
      state.PauseTiming();
      grammar = *first->Clone();
      mask = *grammar.NextTokens();
      state.ResumeTiming();
    }
  }
  state.counters["most_us"] = most;
}
BENCHMARK(BM_Mask)->Unit(benchmark::kMicrosecond)->Iterations(20'000);

}  // namespace
}  // namespace quire
