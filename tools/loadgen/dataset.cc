// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/dataset.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "tools/loadgen/random.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kPromptStream = 2;
// A length beyond any model's window is a mistake in the file.
constexpr int64_t kMaxLen = 1 << 24;

struct Line {
  int64_t number = 0;  // from 1
  Json json;
};

void AppendRandomTokens(int64_t num_tokens, int64_t vocab_size, Random* random,
                        std::vector<uint32_t>* token_ids) {
  for (int64_t idx = 0; idx < num_tokens; ++idx) {
    token_ids->push_back(
        static_cast<uint32_t>(random->UniformInt(0, vocab_size - 1)));
  }
}

std::vector<LoadPrompt> RandomPrompts(const DatasetOptions& options,
                                      int64_t vocab_size, int64_t num_prompts,
                                      Random* random) {
  const auto draw_len = [&](int64_t len) {
    const double spread = len * options.random_range_ratio;
    return random->UniformInt(std::max<int64_t>(1, std::floor(len - spread)),
                              std::max<int64_t>(1, std::ceil(len + spread)));
  };
  std::vector<uint32_t> prefix;
  AppendRandomTokens(options.random_prefix_len, vocab_size, random, &prefix);
  std::vector<LoadPrompt> prompts;
  for (int64_t idx = 0; idx < num_prompts; ++idx) {
    LoadPrompt prompt;
    prompt.token_ids = prefix;
    AppendRandomTokens(draw_len(options.random_input_len), vocab_size, random,
                       &prompt.token_ids);
    prompt.output_len = draw_len(options.random_output_len);
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

std::vector<LoadPrompt> PrefixRepetitionPrompts(const DatasetOptions& options,
                                                int64_t vocab_size,
                                                int64_t num_prompts,
                                                Random* random) {
  std::vector<std::vector<uint32_t>> prefixes(
      options.prefix_repetition_num_prefixes);
  for (std::vector<uint32_t>& prefix : prefixes) {
    AppendRandomTokens(options.prefix_repetition_prefix_len, vocab_size, random,
                       &prefix);
  }
  std::vector<LoadPrompt> prompts;
  for (int64_t idx = 0; idx < num_prompts; ++idx) {
    LoadPrompt prompt;
    prompt.token_ids = prefixes[random->UniformInt(0, prefixes.size() - 1)];
    AppendRandomTokens(options.prefix_repetition_suffix_len, vocab_size, random,
                       &prompt.token_ids);
    prompt.output_len = options.prefix_repetition_output_len;
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

absl::Status BadLine(const DatasetOptions& options, int64_t number,
                     absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(options.path, ":", number, ": ", what));
}

absl::StatusOr<std::vector<Line>> ReadLines(const DatasetOptions& options) {
  if (options.path.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--dataset_name=", options.name, " needs a --dataset_path"));
  }
  std::ifstream file(options.path);
  if (!file) {
    return absl::NotFoundError(
        absl::StrCat("cannot read --dataset_path=", options.path));
  }
  std::vector<Line> lines;
  std::string text;
  for (int64_t number = 1; std::getline(file, text); ++number) {
    if (absl::StripAsciiWhitespace(text).empty()) continue;
    Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) {
      return BadLine(options, number, "not a JSON object");
    }
    lines.push_back({number, std::move(json)});
  }
  if (lines.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.path, " holds no request"));
  }
  return lines;
}

absl::StatusOr<int64_t> ReadLen(const DatasetOptions& options, const Line& line,
                                const char* field) {
  const auto it = line.json.find(field);
  if (it == line.json.end()) {
    return BadLine(options, line.number, absl::StrCat("no \"", field, "\""));
  }
  const bool is_fitting = it->is_number_integer() && *it >= 1 && *it <= kMaxLen;
  if (!is_fitting) {
    return BadLine(options, line.number,
                   absl::StrCat("\"", field, "\" is ", it->dump(),
                                ", not a whole number in 1..", kMaxLen));
  }
  return it->get<int64_t>();
}

absl::StatusOr<std::vector<LoadPrompt>> LengthsPrompts(
    const DatasetOptions& options, int64_t vocab_size, int64_t num_prompts,
    Random* random) {
  QUIRE_ASSIGN_OR_RETURN(const std::vector<Line> lines, ReadLines(options));
  std::vector<LoadPrompt> prompts;
  for (int64_t idx = 0; idx < num_prompts; ++idx) {
    const Line& line = lines[idx % lines.size()];
    LoadPrompt prompt;
    QUIRE_ASSIGN_OR_RETURN(const int64_t prompt_len,
                           ReadLen(options, line, "prompt_len"));
    QUIRE_ASSIGN_OR_RETURN(prompt.output_len,
                           ReadLen(options, line, "output_len"));
    AppendRandomTokens(prompt_len, vocab_size, random, &prompt.token_ids);
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

absl::StatusOr<std::vector<LoadPrompt>> CustomPrompts(
    const DatasetOptions& options, int64_t num_prompts) {
  QUIRE_ASSIGN_OR_RETURN(const std::vector<Line> lines, ReadLines(options));
  std::vector<LoadPrompt> prompts;
  for (int64_t idx = 0; idx < num_prompts; ++idx) {
    const Line& line = lines[idx % lines.size()];
    const auto text = line.json.find("prompt");
    if (text == line.json.end() || !text->is_string() ||
        text->get_ref<const std::string&>().empty()) {
      return BadLine(options, line.number, "no text in \"prompt\"");
    }
    LoadPrompt prompt;
    prompt.text = text->get<std::string>();
    prompt.output_len = options.custom_output_len;
    if (line.json.contains("output_tokens")) {
      QUIRE_ASSIGN_OR_RETURN(prompt.output_len,
                             ReadLen(options, line, "output_tokens"));
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

absl::Status CheckFit(const std::vector<LoadPrompt>& prompts,
                      int64_t max_model_len) {
  if (max_model_len == 0) return absl::OkStatus();
  for (size_t idx = 0; idx < prompts.size(); ++idx) {
    const int64_t num_tokens =
        prompts[idx].num_tokens() + prompts[idx].output_len;
    if (num_tokens > max_model_len) {
      return absl::InvalidArgumentError(absl::StrCat(
          "request ", idx, " has ", prompts[idx].num_tokens(), " prompt and ",
          prompts[idx].output_len, " output tokens, more than the model's ",
          max_model_len, "-token window; choose shorter lengths"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckDataset(const DatasetOptions& options) {
  if (options.name == "random" || options.name == "prefix_repetition") {
    return absl::OkStatus();
  }
  if (options.name == "lengths" || options.name == "custom") {
    return ReadLines(options).status();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--dataset_name=", options.name,
                   " is not random, lengths, prefix_repetition or custom"));
}

absl::StatusOr<std::vector<LoadPrompt>> MakePrompts(
    const DatasetOptions& options, const PromptLimits& limits,
    int64_t num_prompts, int64_t seed) {
  if (limits.vocab_size < 1) {
    return absl::InvalidArgumentError(
        "the server names no vocabulary size to draw token ids from");
  }
  QUIRE_RETURN_IF_ERROR(CheckDataset(options));
  Random random(seed, kPromptStream);
  absl::StatusOr<std::vector<LoadPrompt>> prompts;
  if (options.name == "random") {
    prompts = RandomPrompts(options, limits.vocab_size, num_prompts, &random);
  } else if (options.name == "prefix_repetition") {
    prompts = PrefixRepetitionPrompts(options, limits.vocab_size, num_prompts,
                                      &random);
  } else if (options.name == "lengths") {
    prompts = LengthsPrompts(options, limits.vocab_size, num_prompts, &random);
  } else if (options.name == "custom") {
    prompts = CustomPrompts(options, num_prompts);
  }
  QUIRE_RETURN_IF_ERROR(prompts.status());
  QUIRE_RETURN_IF_ERROR(CheckFit(*prompts, limits.max_model_len));
  return prompts;
}

}  // namespace quire
