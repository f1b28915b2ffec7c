// SPDX-License-Identifier: Apache-2.0
#include "coordinator/served_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"
#include "coordinator/check_vocabulary.h"

namespace quire {
namespace {

// Prompts are refused before they are encoded when no window could hold them:
// tokens of 16 bytes on average would be extraordinary.
constexpr int64_t kMaxBytesPerToken = 16;
constexpr int64_t kLeastMaxTextBytes = 512 << 10;

// A vocabulary of one, for serving token ids only.
constexpr char kNoTokenizer[] =
    R"({"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel",
        "vocab": {"<unk>": 0}, "unk_token": "<unk>"}})";

std::string FolderName(const std::string& path) {
  const absl::string_view trimmed = absl::StripSuffix(path, "/");
  const size_t slash = trimmed.rfind('/');
  return std::string(
      slash == absl::string_view::npos ? trimmed : trimmed.substr(slash + 1));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(
    const ServedModelOptions& options) {
  if (options.skip_tokenizer_init) return Tokenizer::FromJson(kNoTokenizer);
  const std::string file = absl::StrCat(options.folder, "/tokenizer.json");
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(
      file, absl::StrCat(options.folder, "/tokenizer_config.json"));
  if (!absl::IsNotFound(tokenizer.status())) return tokenizer;
  tokenizer = Tokenizer::Load(file);  // the second file is optional
  if (!absl::IsNotFound(tokenizer.status())) return tokenizer;
  return absl::NotFoundError(
      absl::StrCat(options.folder,
                   " has no tokenizer.json; transformers writes one: "
                   "AutoTokenizer.from_pretrained(\"",
                   options.folder, "\").save_pretrained(\"", options.folder,
                   "\"). Or serve token ids alone with --skip_tokenizer_init"));
}

ModelLimits LimitsOf(const ServedModelOptions& options,
                     const ServedModel& model) {
  ModelLimits limits;
  limits.model_name = model.name;
  limits.max_model_len = model.max_model_len;
  limits.eos_token_ids = model.config.eos_token_ids;
  limits.vocab_size = model.config.vocab_size;
  if (!options.skip_tokenizer_init) {
    limits.vocab_size =
        std::min(model.config.vocab_size, model.tokenizer->vocab_size());
    limits.max_text_bytes =
        std::max(kLeastMaxTextBytes, kMaxBytesPerToken * limits.max_model_len);
  }
  return limits;
}

}  // namespace

absl::StatusOr<ServedModel> OpenServedModel(const ServedModelOptions& options) {
  ServedModel model;
  QUIRE_ASSIGN_OR_RETURN(model.config, ModelConfig::FromFolder(options.folder));
  const absl::Status fits =
      model.config.CheckTensorParallel(options.tensor_parallel_size);
  if (!fits.ok()) return absl::OutOfRangeError(fits.message());
  if (options.max_model_len > model.config.max_scaled_position) {
    return absl::OutOfRangeError(
        absl::StrCat("--max_model_len=", options.max_model_len,
                     " is more than the ", model.config.max_scaled_position,
                     " positions the model was trained for"));
  }
  model.max_model_len = options.max_model_len > 0 ? options.max_model_len
                                                  : model.config.max_position;
  QUIRE_ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(options));
  if (!options.skip_tokenizer_init) {
    const Tokenizer& tokenizer = *model.tokenizer;
    QUIRE_RETURN_IF_ERROR(CheckVocabulary(
        options.folder, model.config.vocab_size, tokenizer.vocab_size(),
        [&](TokenId id) {
          return tokenizer.IsKnown(id) && !tokenizer.IsSpecial(id);
        }));
  }
  model.name = options.served_model_name.empty() ? FolderName(options.folder)
                                                 : options.served_model_name;
  model.limits = LimitsOf(options, model);
  if (!options.skip_tokenizer_init) {
    model.grammars = std::make_unique<GrammarSource>(
        model.tokenizer.get(), model.limits.vocab_size,
        model.limits.eos_token_ids);
  }
  return model;
}

void FitEngineToModel(const ServedModel& model, EngineOptions* engine) {
  engine->max_model_len = model.max_model_len;
  // A window that nothing can leave is none.
  if (model.config.sliding_window() < model.max_model_len) {
    engine->sliding_window = model.config.sliding_window();
  }
}

}  // namespace quire
