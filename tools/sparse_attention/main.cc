// SPDX-License-Identifier: Apache-2.0
//
// What --sparse_attention=top_pages:K does to a model's logits and to the time
// of its decode steps on this machine's CPU, for several K and prompt lengths,
// against dense decodes in the same run.
//
//   bazel run --config=opt //tools:sparse_attention -- --model=DIR
//
// By default, the demo model and prompts in its own words. A model's shape
// alone, with random weights, shows times and no more:
//
//   ... -- --model=tools/bench/llama_3_2_1b --load_format=dummy
//       --prompt_tokens=2048,8192 --steps=8
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/usage.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/flags/parse_flags.h"
#include "common/sparse_attention.h"
#include "common/status_macros.h"
#include "common/text/tokenizer.h"
#include "tools/sparse_attention/decode_trial.h"

ABSL_FLAG(std::string, model, "tools/demo_model/model",
          "Hugging Face folder; for random weights, of a config.json alone.");
ABSL_FLAG(std::string, load_format, "auto", "auto, or dummy: random weights.");
ABSL_FLAG(std::string, dtype, "bfloat16", "bfloat16 or float32.");
ABSL_FLAG(int, num_threads, 0, "Threads; 0: one a core.");
ABSL_FLAG(int, block_size, 16, "Tokens of a page.");
ABSL_FLAG(int, batch, 1, "Sequences of a step.");
ABSL_FLAG(std::vector<std::string>, prompt_tokens,
          std::vector<std::string>({"512", "1024", "1900"}), "Prompt lengths.");
ABSL_FLAG(std::vector<std::string>, pages,
          std::vector<std::string>({"4", "8", "16", "32"}), "Ks.");
ABSL_FLAG(int, steps, 64, "Decode steps of each prompt.");
ABSL_FLAG(std::string, text, "",
          "File whose text the prompts are cut from, by the folder's "
          "tokenizer.json. Empty: what the model itself says at temperature 1, "
          "or with random weights random tokens.");
ABSL_FLAG(int, seed, 1, "Of prompts.");

namespace quire {
namespace {

using Prompts = std::vector<std::vector<TokenId>>;

absl::StatusOr<std::vector<int32_t>> Numbers(
    const char* flag, const std::vector<std::string>& values, int32_t least) {
  std::vector<int32_t> numbers;
  for (const std::string& value : values) {
    int32_t number = 0;
    if (!absl::SimpleAtoi(value, &number) || number < least) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--", flag, "=", value, ": want numbers of at least ", least));
    }
    numbers.push_back(number);
  }
  if (numbers.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, " is empty: want numbers"));
  }
  return numbers;
}

absl::StatusOr<std::vector<TokenId>> EncodeFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) {
    return absl::NotFoundError(absl::StrCat("--text=", path, ": unreadable"));
  }
  QUIRE_ASSIGN_OR_RETURN(const auto tokenizer,
                         Tokenizer::Load(absl::StrCat(
                             absl::GetFlag(FLAGS_model), "/tokenizer.json")));
  return tokenizer->Encode(text.str());
}

// As many prompts as sequences, each of `num_tokens`.
absl::StatusOr<Prompts> MakePrompts(DecodeTrial* trial, int32_t num_tokens) {
  const int batch = absl::GetFlag(FLAGS_batch);
  const std::string path = absl::GetFlag(FLAGS_text);
  if (!path.empty()) {
    QUIRE_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens, EncodeFile(path));
    if (tokens.size() < size_t{1} * batch * num_tokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("--text=", path, " has ", tokens.size(), " tokens; ",
                       batch, " prompts of ", num_tokens, " want more"));
    }
    Prompts prompts;
    for (int i = 0; i < batch; ++i) {
      const auto first = tokens.begin() + int64_t{i} * num_tokens;
      prompts.emplace_back(first, first + num_tokens);
    }
    return prompts;
  }
  if (absl::GetFlag(FLAGS_load_format) != "dummy") {
    return trial->Generate(batch, num_tokens, absl::GetFlag(FLAGS_seed));
  }
  std::mt19937 random(absl::GetFlag(FLAGS_seed));
  std::uniform_int_distribution<TokenId> any(0, trial->config().vocab_size - 1);
  Prompts prompts(batch, std::vector<TokenId>(num_tokens));
  for (std::vector<TokenId>& prompt : prompts) {
    for (TokenId& token : prompt) token = any(random);
  }
  return prompts;
}

void Print(int32_t num_tokens, const TrialResult& result) {
  for (const PagesTrial& trial : result.trials) {
    const LogitDifference& difference = trial.difference;
    std::printf(
        "%8d %6d %9.1f%% %9.1f%% %10.4f %10.4f %10.5f %8.1f%% %9.2f %9.2f "
        "%7.2fx\n",
        num_tokens, trial.num_pages, 100 * trial.pages_read,
        100 * trial.bytes_read, difference.max(), difference.mean(),
        difference.mean_kl(), 100 * difference.top_agreement(),
        1e3 * result.dense_step_seconds, 1e3 * trial.step_seconds,
        result.dense_step_seconds / trial.step_seconds);
  }
}

absl::Status Main() {
  QUIRE_ASSIGN_OR_RETURN(
      const std::vector<int32_t> lengths,
      Numbers("prompt_tokens", absl::GetFlag(FLAGS_prompt_tokens), 1));
  QUIRE_ASSIGN_OR_RETURN(
      const std::vector<int32_t> pages,
      Numbers("pages", absl::GetFlag(FLAGS_pages), kMinSparsePages));
  const int steps = absl::GetFlag(FLAGS_steps);
  const int batch = absl::GetFlag(FLAGS_batch);
  const int block_size = absl::GetFlag(FLAGS_block_size);
  if (steps < 1 || batch < 1 || block_size < 1) {
    return absl::InvalidArgumentError(
        "--steps, --batch and --block_size: want at least 1");
  }
  const std::string dtype = absl::GetFlag(FLAGS_dtype);
  if (dtype != "bfloat16" && dtype != "float32") {
    return absl::InvalidArgumentError(
        absl::StrCat("--dtype=", dtype, ": want bfloat16 or float32"));
  }
  TrialOptions options;
  options.model = absl::GetFlag(FLAGS_model);
  options.load_format = absl::GetFlag(FLAGS_load_format);
  options.dtype = dtype == "float32" ? DType::kF32 : DType::kBf16;
  options.num_threads = absl::GetFlag(FLAGS_num_threads);
  options.block_size = block_size;
  options.max_num_seqs = batch;
  options.max_model_len =
      *std::max_element(lengths.begin(), lengths.end()) + steps;
  QUIRE_ASSIGN_OR_RETURN(const auto trial, DecodeTrial::Create(options));
  std::printf(
      "%d steps of %d sequences, pages of %d tokens. Logits: difference from "
      "dense, KL in nats, same likeliest token. Times: median step.\n"
      "%8s %6s %10s %10s %10s %10s %10s %9s %9s %9s %8s\n",
      steps, batch, block_size, "prompt", "K", "pages", "KV bytes", "max diff",
      "mean diff", "KL", "top-1", "dense ms", "sparse ms", "speed");
  for (int32_t length : lengths) {
    QUIRE_ASSIGN_OR_RETURN(const Prompts prompts,
                           MakePrompts(trial.get(), length));
    QUIRE_ASSIGN_OR_RETURN(const TrialResult result,
                           trial->Run(prompts, steps, pages));
    Print(length, result);
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "compares page-sparse decode (--sparse_attention=top_pages:K) with dense "
      "decode: logits and time");
  const auto rest = quire::ParseFlags(argc, argv);
  absl::Status status = rest.status();
  if (status.ok() && !rest->empty()) {
    status = absl::InvalidArgumentError("unexpected argument " + rest->front());
  }
  if (status.ok()) status = quire::Main();
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 1;
}
