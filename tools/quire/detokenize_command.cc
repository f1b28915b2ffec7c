// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/text/tokenizer.h"
#include "tools/cli/colour.h"
#include "tools/cli/flag_set.h"
#include "tools/quire/commands.h"
#include "tools/quire/open_tokenizer.h"
#include "tools/quire/token_lines.h"
#include "tools/quire/token_table.h"

namespace quire {
namespace {

int Fail(const std::string& message, int code) {
  std::cerr << "quire detokenize: " << message << "\n";
  return code;
}

// Ids parted by blanks, commas, line breaks or brackets, as people paste them.
int Show(const Tokenizer& tokenizer, const std::string& input,
         bool skip_special_tokens) {
  std::vector<TokenId> tokens;
  for (const absl::string_view word : absl::StrSplit(
           input, absl::ByAnyChar(" \t\r\n,[]"), absl::SkipEmpty())) {
    TokenId id = 0;
    if (!absl::SimpleAtoi(word, &id)) {
      return Fail("\"" + std::string(word.substr(0, 40)) + "\" is no token id",
                  2);
    }
    tokens.push_back(id);
  }
  const auto text = tokenizer.DecodeAsLibrary(tokens, skip_special_tokens);
  if (!text.ok()) return Fail(std::string(text.status().message()), 1);
  if (isatty(STDOUT_FILENO) != 1) {
    std::cout << *text << std::endl;
    return 0;
  }
  const Painter painter(IsColourTerminal(STDOUT_FILENO));
  std::cout << *text << "\n\n"
            << painter.Dim(TokenCounts(tokens.size(), *text)) << std::endl;
  return 0;
}

}  // namespace

int DetokenizeCommand(const std::vector<std::string>& args) {
  std::string model;
  bool jsonl = false;
  bool skip_special_tokens = true;
  FlagSet set("quire detokenize [ID ...] [flags]   (no ids: standard input)",
              "Shows the text of tokens.");
  set.Add("model", &model,
          "a folder with a tokenizer.json; without it, the demo model's");
  set.Add("jsonl", &jsonl,
          "read lines {\"tokens\", \"skip_special_tokens\"} and write lines "
          "{\"text\"}; a bad line gives {\"error\"}, and 1 as exit status at "
          "the end");
  set.Add("skip_special_tokens", &skip_special_tokens,
          "leave control tokens, such as BOS, out of the text");
  const auto positional = set.Parse(args);
  if (!positional.ok()) {
    return Fail(std::string(positional.status().message()), 2);
  }
  if (set.help_requested()) {
    std::cout << set.Help();
    return 0;
  }
  if (jsonl && !positional->empty()) {
    return Fail("--jsonl reads tokens from standard input alone", 2);
  }
  const auto tokenizer = OpenTokenizer(model);
  if (!tokenizer.ok()) {
    return Fail(std::string(tokenizer.status().message()), 1);
  }
  if (!jsonl) {
    std::string input;
    for (const std::string& word : *positional) input += word + " ";
    if (positional->empty() || input == "- ") {
      input = std::string(std::istreambuf_iterator<char>(std::cin), {});
    }
    return Show(**tokenizer, input, skip_special_tokens);
  }
  return AnswerStandardInput("quire detokenize", **tokenizer, DetokenizeLine);
}

}  // namespace quire
