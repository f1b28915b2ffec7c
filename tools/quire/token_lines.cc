// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/token_lines.h"

#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace quire {
namespace {

using Json = nlohmann::json;

absl::StatusOr<Json> ParseLine(const std::string& line) {
  if (line.find_first_not_of(" \t\r") == std::string::npos) {
    return absl::InvalidArgumentError("the line is empty");
  }
  Json request = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (request.is_discarded()) {
    return absl::InvalidArgumentError("not JSON in UTF-8");
  }
  if (!request.is_object()) {
    return absl::InvalidArgumentError("not a JSON object");
  }
  return request;
}

absl::StatusOr<bool> ReadBool(const Json& request, const char* key) {
  const auto it = request.find(key);
  if (it == request.end()) return true;
  if (!it->is_boolean()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key, "\" is neither true nor false"));
  }
  return it->get<bool>();
}

absl::StatusOr<std::vector<TokenId>> ReadTokens(const Json& request) {
  const auto it = request.find("tokens");
  if (it == request.end() || !it->is_array()) {
    return absl::InvalidArgumentError("\"tokens\" must be a list of ids");
  }
  std::vector<TokenId> tokens;
  tokens.reserve(it->size());
  for (const Json& token : *it) {
    const bool fits = token.is_number_integer() &&
                      token >= std::numeric_limits<TokenId>::min() &&
                      token <= std::numeric_limits<TokenId>::max();
    if (!fits) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tokens[", tokens.size(), "] is no id: ",
          token.dump(-1, ' ', false, Json::error_handler_t::replace)
              .substr(0, 40)));
    }
    tokens.push_back(token.get<TokenId>());
  }
  return tokens;
}

absl::StatusOr<Json> Tokenize(const Tokenizer& tokenizer,
                              const std::string& line) {
  QUIRE_ASSIGN_OR_RETURN(const Json request, ParseLine(line));
  const auto text = request.find("text");
  if (text == request.end() || !text->is_string()) {
    return absl::InvalidArgumentError("\"text\" must be a string");
  }
  EncodeOptions options;
  options.special_tokens = SpecialTokens::kParse;
  QUIRE_ASSIGN_OR_RETURN(options.add_special_tokens,
                         ReadBool(request, "add_special_tokens"));
  QUIRE_ASSIGN_OR_RETURN(
      const std::vector<TokenId> tokens,
      tokenizer.Encode(text->get_ref<const std::string&>(), options));
  return Json{{"tokens", tokens}};
}

absl::StatusOr<Json> Detokenize(const Tokenizer& tokenizer,
                                const std::string& line) {
  QUIRE_ASSIGN_OR_RETURN(const Json request, ParseLine(line));
  QUIRE_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens,
                         ReadTokens(request));
  QUIRE_ASSIGN_OR_RETURN(const bool skip,
                         ReadBool(request, "skip_special_tokens"));
  QUIRE_ASSIGN_OR_RETURN(const std::string text,
                         tokenizer.DecodeAsLibrary(tokens, skip));
  return Json{{"text", text}};
}

std::string ToLine(int64_t number, const absl::StatusOr<Json>& answer,
                   bool* is_good) {
  *is_good = answer.ok();
  const Json json =
      answer.ok() ? *answer
                  : Json{{"error", absl::StrCat("line ", number, ": ",
                                                answer.status().message())}};
  return json.dump(-1, ' ', /*ensure_ascii=*/false,
                   Json::error_handler_t::replace);
}

}  // namespace

std::string TokenizeLine(const Tokenizer& tokenizer, int64_t number,
                         const std::string& line, bool* is_good) {
  return ToLine(number, Tokenize(tokenizer, line), is_good);
}

std::string DetokenizeLine(const Tokenizer& tokenizer, int64_t number,
                           const std::string& line, bool* is_good) {
  return ToLine(number, Detokenize(tokenizer, line), is_good);
}

LineCounts AnswerLines(const Tokenizer& tokenizer, LineFunction answer,
                       std::istream* in, std::ostream* out) {
  LineCounts counts;
  std::string line;
  while (std::getline(*in, line)) {
    bool is_good = false;
    const std::string text =
        answer(tokenizer, ++counts.num_lines, line, &is_good);
    *out << text << '\n';
    if (!is_good && ++counts.num_bad == 1) {
      counts.first_error = Json::parse(text)["error"].get<std::string>();
    }
    if (in->rdbuf()->in_avail() <= 0) out->flush();
  }
  out->flush();
  return counts;
}

int AnswerStandardInput(const std::string& command, const Tokenizer& tokenizer,
                        LineFunction answer) {
  const LineCounts counts =
      AnswerLines(tokenizer, answer, &std::cin, &std::cout);
  if (counts.num_bad == 0) return 0;
  std::cerr << command << ": " << counts.num_bad << " of " << counts.num_lines
            << " lines are bad; first: " << counts.first_error << "\n";
  return 1;
}

}  // namespace quire
