// SPDX-License-Identifier: Apache-2.0
//
// Speed of encoding and of streamed decoding on one core, with a byte-level BPE
// of the size that current models have and the pattern that Llama 3 splits by.
//
//   bazel run --config=opt //tests/common/text:tokenizer_bench
#include <benchmark/benchmark.h>
#include <glog/logging.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "common/text/stream_decoder.h"
#include "common/text/tokenizer.h"

namespace quire {
namespace {

constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr size_t kNumWords = 40'000;
constexpr size_t kTextBytes = 100'000;

std::string Utf8(uint32_t code) {  // below U+0800
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6),
          static_cast<char>(0x80 | (code & 0x3F))};
}

// A vocabulary that is grown by merges, as training grows one.
class Bpe final {
 public:
  Bpe() {
    // GPT-2's letters for bytes: itself if it is printable, else from U+0100.
    uint32_t next = 256;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
      Add(Utf8(printable ? byte : next++));
    }
  }

  std::string Merge(const std::string& left, const std::string& right) {
    const std::string both = left + right;
    if (Add(both)) merges_.push_back({left, right});
    return both;
  }

  std::string TokenizerJson() const {
    nlohmann::json file;
    file["version"] = "1.0";
    file["added_tokens"] = nlohmann::json::array();
    file["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers",
                              {{{"type", "Split"},
                                {"pattern", {{"Regex", kLlama3Pattern}}},
                                {"behavior", "Isolated"},
                                {"invert", false}},
                               {{"type", "ByteLevel"},
                                {"add_prefix_space", false},
                                {"trim_offsets", true},
                                {"use_regex", false}}}}};
    file["decoder"] = {{"type", "ByteLevel"},
                       {"add_prefix_space", true},
                       {"trim_offsets", true},
                       {"use_regex", true}};
    file["model"] = {{"type", "BPE"}, {"vocab", vocab_}, {"merges", merges_}};
    return file.dump();
  }

 private:
  bool Add(const std::string& token) {
    return vocab_.emplace(token, vocab_.size()).second;
  }

  std::map<std::string, size_t> vocab_;
  std::vector<std::vector<std::string>> merges_;
};

struct Language {
  std::vector<std::string> words;
  std::unique_ptr<Tokenizer> tokenizer;
};

// Words of one to four syllables, the first ones in the list the commonest.
// All syllables are tokens, and so is every second word.
Language MakeLanguage() {
  std::mt19937 rng(1);
  const std::string consonants = "bcdfghjklmnprstvwy";
  const std::string vowels = "aeiou";
  Bpe bpe;
  std::vector<std::string> syllables;
  for (const char c : consonants) {
    for (const char v : vowels) {
      const std::string open = bpe.Merge(std::string(1, c), std::string(1, v));
      syllables.push_back(open);
      for (const char end : {'n', 'r', 's', 't', 'l', 'd'}) {
        syllables.push_back(bpe.Merge(open, std::string(1, end)));
      }
    }
  }
  Language language;
  for (size_t i = 0; i < kNumWords; ++i) {
    std::string word;
    std::string token = "Ġ";
    const size_t num_syllables = 1 + rng() % (i < 2000 ? 2 : 4);
    for (size_t s = 0; s < num_syllables; ++s) {
      const std::string& syllable = syllables[rng() % syllables.size()];
      word += syllable;
      if (i % 2 == 0) token = bpe.Merge(token, syllable);
    }
    language.words.push_back(word);
  }
  auto tokenizer = Tokenizer::FromJson(bpe.TokenizerJson());
  CHECK(tokenizer.ok()) << tokenizer.status();
  language.tokenizer = *std::move(tokenizer);
  return language;
}

const Language& TheLanguage() {
  static const Language* const language = new Language(MakeLanguage());
  return *language;
}

// Sentences with capitals, numbers and punctuation. Rank r of a word is drawn
// with density 1/r (Zipf).
std::string MakeText(uint32_t seed) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<double> unit(0, 1);
  const Language& language = TheLanguage();
  std::string text;
  bool capital = true;
  while (text.size() < kTextBytes) {
    const double rank = std::pow(language.words.size(), unit(rng)) - 1;
    std::string word = language.words[static_cast<size_t>(rank)];
    if (capital) word[0] = static_cast<char>(word[0] - 'a' + 'A');
    capital = false;
    if (!text.empty() && text.back() != '\n') text += ' ';
    text += word;
    const uint32_t dice = rng() % 100;
    if (dice < 6) text += ",";
    if (dice >= 6 && dice < 8) text += " " + std::to_string(rng() % 10'000);
    if (dice >= 92) text += dice >= 99 ? ".\n\n" : ".";
    capital = dice >= 92;
  }
  return text;
}

void BM_Load(benchmark::State& state) {
  TheLanguage();
  for (auto _ : state) benchmark::DoNotOptimize(MakeLanguage());
}
BENCHMARK(BM_Load)->Unit(benchmark::kMillisecond)->Iterations(1);

// A different text each time, so that the model's cache of words helps as it
// helps a server.
void BM_EncodeEnglishLike(benchmark::State& state) {
  std::vector<std::string> texts;
  for (uint32_t seed = 0; seed < 32; ++seed) texts.push_back(MakeText(seed));
  const Tokenizer& tokenizer = *TheLanguage().tokenizer;
  size_t next = 0;
  size_t bytes = 0;
  size_t tokens = 0;
  for (auto _ : state) {
    const std::string& text = texts[next++ % texts.size()];
    const auto ids = tokenizer.Encode(text);
    CHECK(ids.ok()) << ids.status();
    bytes += text.size();
    tokens += ids->size();
  }
  state.SetBytesProcessed(static_cast<int64_t>(bytes));
  state.counters["bytes_per_token"] =
      static_cast<double>(bytes) / static_cast<double>(tokens);
  state.counters["vocab"] = tokenizer.vocab_size();
}
BENCHMARK(BM_EncodeEnglishLike)->Unit(benchmark::kMillisecond);

void BM_EncodeOneLetter(benchmark::State& state) {
  const Tokenizer& tokenizer = *TheLanguage().tokenizer;
  const std::string text(kTextBytes, 'a');
  for (auto _ : state) CHECK(tokenizer.Encode(text).ok());
  state.SetBytesProcessed(state.iterations() * text.size());
}
BENCHMARK(BM_EncodeOneLetter)->Unit(benchmark::kMillisecond);

void BM_Decode(benchmark::State& state) {
  const Tokenizer& tokenizer = *TheLanguage().tokenizer;
  const auto ids = *tokenizer.Encode(MakeText(7));
  for (auto _ : state) {
    CHECK(tokenizer.Decode(ids, /*skip_special_tokens=*/true).ok());
  }
  state.SetItemsProcessed(state.iterations() * ids.size());
}
BENCHMARK(BM_Decode)->Unit(benchmark::kMillisecond);

// One item is one token of one sequence.
void BM_StreamDecoderAppend(benchmark::State& state) {
  const Tokenizer& tokenizer = *TheLanguage().tokenizer;
  const auto ids = *tokenizer.Encode(MakeText(9));
  StreamDecoder decoder(&tokenizer);
  size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(decoder.Append({ids[next++ % ids.size()]}));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_StreamDecoderAppend);

}  // namespace
}  // namespace quire
