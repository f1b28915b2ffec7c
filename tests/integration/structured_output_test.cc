// SPDX-License-Identifier: Apache-2.0
//
// Outputs of the demo model under random JSON schemas: every one that ends is
// what its schema says, by the judgement of Python's jsonschema
// (judge_json.py); requests beside them keep their tokens, and preemption and
// the number of ranks do not show.
//
// QUIRE_NUM_SCHEMAS=1000 tries more schemas than continuous integration does:
//   bazel test --test_env=QUIRE_NUM_SCHEMAS=1000
//       //tests/integration:structured_output_test
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/text/grammar.h"
#include "common/text/tokenizer.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/integration/in_process.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

// Random schemas whose texts are short.
class SchemaMaker {
 public:
  explicit SchemaMaker(uint64_t seed) : random_(seed) {}

  Json Schema() {
    Json schema = Object(/*depth=*/0);
    if (Below(4) == 0) {
      schema["$defs"]["part"] = Leaf();
      schema["properties"]["shared"] = {{"$ref", "#/$defs/part"}};
    }
    return schema;
  }

 private:
  int64_t Below(int64_t n) { return static_cast<int64_t>(random_() % n); }

  Json Any(int depth) {
    if (depth >= 2) return Leaf();
    switch (Below(6)) {
      case 0:
        return Object(depth + 1);
      case 1:
        return Array(depth + 1);
      case 2:
        return {{"anyOf", {Leaf(), Leaf()}}};
      default:
        return Leaf();
    }
  }

  Json Object(int depth) {
    static constexpr const char* kNames[] = {
        "name", "id", "größe", "a b", "x", "tag", "\"q\"", "long_one"};
    Json schema = {{"type", "object"}, {"additionalProperties", false}};
    schema["properties"] = Json::object();
    Json required = Json::array();
    for (int64_t n = Below(4); n >= 0; --n) {
      const char* name = kNames[Below(8)];
      if (schema["properties"].contains(name)) continue;
      schema["properties"][name] = Any(depth);
      if (Below(3) > 0) required.push_back(name);
    }
    schema["required"] = required;
    return schema;
  }

  Json Array(int depth) {
    const int64_t least = Below(3);
    return {{"type", "array"},
            {"items", Any(depth)},
            {"minItems", least},
            {"maxItems", least + Below(3)}};
  }

  Json Leaf() {
    static constexpr const char* kPatterns[] = {"^[a-f]{1,3}$", "^x+$",
                                                "^(yes|no)[0-9]{2}$"};
    switch (Below(9)) {
      case 0:
        return {{"type", "boolean"}};
      case 1:
        return {{"type", "null"}};
      case 2: {
        const int64_t least = Below(200) - 100;
        return {{"type", "integer"},
                {"minimum", least},
                {"maximum", least + Below(300)}};
      }
      case 3:
        return {{"type", "string"}, {"pattern", kPatterns[Below(3)]}};
      case 4:
        return {
            {"enum", {"red", "grün", 7, nullptr, true, 1.5, Json::array()}}};
      case 5:
        return {{"const", Below(2) == 0 ? Json("fixed") : Json{{"k", 1}}}};
      case 6:
        return {{"type", "number"}, {"minimum", 0}, {"maximum", Below(50) + 1}};
      case 7:
        return {{"type", {"boolean", "null"}}};
      default: {
        const int64_t least = Below(4);
        return {{"type", "string"},
                {"minLength", least},
                {"maxLength", least + Below(8)}};
      }
    }
  }

  std::mt19937_64 random_;
};

class StructuredOutputTest : public testing::Test {
 protected:
  StructuredOutputTest() {
    setting_.model = ModelFolder("tools/demo_model/model");
    setting_.max_model_len = 256;
    setting_.max_num_seqs = 48;
    setting_.max_num_batched_tokens = 256;
    setting_.num_blocks = 1024;
    auto tokenizer =
        Tokenizer::Load(absl::StrCat(setting_.model, "/tokenizer.json"),
                        absl::StrCat(setting_.model, "/tokenizer_config.json"));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    eos_ = *tokenizer_->eos_id();
    auto vocab =
        GrammarVocab::Create(*tokenizer_, tokenizer_->vocab_size(), {eos_});
    EXPECT_TRUE(vocab.ok()) << vocab.status();
    vocab_ = *std::move(vocab);
  }

  EngineRequest Request(const std::string& id, uint64_t seed) {
    EngineRequest request;
    request.request_id = id;
    request.prompt = *tokenizer_->Encode("Once upon a time", {});
    request.sampling.max_tokens = 120;
    request.sampling.stop_token_ids = {eos_};
    request.sampling.slot.seed = seed;
    return request;
  }

  // Requests with the grammars that they follow, by index.
  void AddSchema(const Json& schema, uint64_t seed, int32_t n = 1) {
    auto grammar = vocab_->Compile(RuleKind::kJsonSchema, schema.dump());
    ASSERT_TRUE(grammar.ok()) << grammar.status() << " of " << schema;
    const auto index = static_cast<int32_t>(requests_.size());
    EngineRequest request = Request(absl::StrCat("s", index), seed);
    request.sampling.n = request.sampling.best_of = n;
    request.sampling.slot.needs_mask = true;
    request.first_mask = *grammar->NextTokens();
    requests_.push_back(std::move(request));
    schemas_[index] = schema;
    for (int32_t i = 0; i < n; ++i) {
      grammars_.emplace(std::pair(index, i), *grammar->Clone());
    }
  }

  InProcessRun Run() {
    std::map<std::pair<int32_t, int32_t>, Grammar> grammars;
    for (const auto& [key, grammar] : grammars_) {
      grammars.emplace(key, *grammar.Clone());
    }
    return RunInProcess(
        setting_, requests_,
        [&](int32_t request_idx, int32_t index,
            const std::vector<TokenId>& outputs) {
          Grammar& grammar = grammars.at({request_idx, index});
          const absl::Status accepted = grammar.Accept({&outputs.back(), 1});
          EXPECT_TRUE(accepted.ok()) << accepted;
          auto mask = grammar.NextTokens();
          EXPECT_TRUE(mask.ok()) << mask.status();
          return mask.ok() ? *mask : TokenMask{~0u};
        });
  }

  // Asks the judge about every sequence that ended by itself; returns how many
  // there were.
  int Judge(const InProcessRun& run) {
    const std::string path = TempPath("structured_outputs.jsonl");
    int num_ended = 0;
    {
      std::ofstream file(path);
      for (const auto& [index, schema] : schemas_) {
        for (const HeardSequence& heard : run.sequences[index]) {
          if (heard.finish_reason != FinishReason::kStop) continue;
          const auto text = tokenizer_->Decode(heard.tokens, true);
          EXPECT_TRUE(text.ok()) << text.status();
          const Json line = {{"schema", schema}, {"text", *text}};
          file << line.dump() << "\n";
          ++num_ended;
        }
      }
    }
    const std::string command =
        absl::StrCat("python3 ", Runfile("tests/integration/judge_json.py"),
                     " ", path, " 2>&1");
    std::FILE* judge = popen(command.c_str(), "r");
    std::string verdict;
    char piece[4096];
    while (std::fgets(piece, sizeof(piece), judge) != nullptr) verdict += piece;
    EXPECT_EQ(pclose(judge), 0) << "tools/setup.sh installs jsonschema";
    EXPECT_EQ(verdict, absl::StrCat(num_ended, " judged\n"));
    return num_ended;
  }

  InProcessSetting setting_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<GrammarVocab> vocab_;
  TokenId eos_ = 0;
  std::vector<EngineRequest> requests_;
  std::map<int32_t, Json> schemas_;
  std::map<std::pair<int32_t, int32_t>, Grammar> grammars_;
};

TEST_F(StructuredOutputTest, WhatEndsIsWhatItsSchemaSays) {
  int num_schemas = 200;
  if (const char* more = std::getenv("QUIRE_NUM_SCHEMAS")) {
    ASSERT_TRUE(absl::SimpleAtoi(more, &num_schemas));
  }
  SchemaMaker maker(/*seed=*/1);
  for (int i = 0; i < num_schemas; ++i) AddSchema(maker.Schema(), i);
  const InProcessRun run = Run();
  const int num_ended = Judge(run);
  // The others wander on to their last token, through spaces mostly.
  EXPECT_GT(num_ended, num_schemas * 2 / 5);
}

TEST_F(StructuredOutputTest, NeighboursPreemptionAndRanksDoNotShow) {
  SchemaMaker maker(/*seed=*/2);
  std::vector<EngineRequest> plain;
  for (int i = 0; i < 10; ++i) {
    AddSchema(maker.Schema(), i, 1 + i % 3);
    requests_.push_back(Request(absl::StrCat("p", i), 100 + i));
    requests_.back().sampling.max_tokens = 40;
    plain.push_back(requests_.back());
  }
  setting_.dtype = DType::kF32;
  const InProcessRun all = Run();
  Judge(all);
  const InProcessRun alone = RunInProcess(setting_, plain);
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_EQ(all.streams[2 * i + 1], alone.streams[i]) << i;
  }
  const auto expect_same = [&](const char* what) {
    SCOPED_TRACE(what);
    const InProcessRun run = Run();
    for (size_t i = 0; i < requests_.size(); ++i) {
      ASSERT_EQ(run.sequences[i].size(), all.sequences[i].size());
      for (size_t s = 0; s < run.sequences[i].size(); ++s) {
        EXPECT_EQ(run.sequences[i][s].tokens, all.sequences[i][s].tokens);
      }
    }
  };
  setting_.forced_preemption_period = 3;
  expect_same("preempted");
  setting_.forced_preemption_period = 0;
  setting_.tensor_parallel_size = 2;
  setting_.run_ahead_depth = 3;
  expect_same("two ranks");
}

}  // namespace
}  // namespace quire
