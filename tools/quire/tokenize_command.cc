// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

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
  std::cerr << "quire tokenize: " << message << "\n";
  return code;
}

int Show(const Tokenizer& tokenizer, const std::string& text,
         bool add_special_tokens) {
  EncodeOptions options;
  options.add_special_tokens = add_special_tokens;
  options.special_tokens = SpecialTokens::kParse;
  const auto tokens = tokenizer.Encode(text, options);
  if (!tokens.ok()) return Fail(std::string(tokens.status().message()), 1);
  const auto table =
      TokenTable(tokenizer, *tokens, Painter(IsColourTerminal(STDOUT_FILENO)));
  if (!table.ok()) return Fail(std::string(table.status().message()), 1);
  std::cout << *table << std::flush;
  return 0;
}

}  // namespace

int TokenizeCommand(const std::vector<std::string>& args) {
  std::string model;
  bool jsonl = false;
  bool add_special_tokens = true;
  FlagSet set("quire tokenize [\"text\"] [flags]   (no text: standard input)",
              "Shows the tokens of a text.");
  set.Add("model", &model,
          "a folder with a tokenizer.json; without it, the demo model's");
  set.Add("jsonl", &jsonl,
          "read lines {\"text\", \"add_special_tokens\"} and write lines "
          "{\"tokens\"}; a bad line gives {\"error\"}, and 1 as exit status at "
          "the end");
  set.Add("add_special_tokens", &add_special_tokens,
          "surround the text with the tokenizer's special tokens, such as BOS");
  const auto positional = set.Parse(args);
  if (!positional.ok()) {
    return Fail(std::string(positional.status().message()), 2);
  }
  if (set.help_requested()) {
    std::cout << set.Help();
    return 0;
  }
  if (positional->size() > (jsonl ? 0 : 1)) {
    return Fail(jsonl ? "--jsonl reads texts from standard input alone"
                      : "several texts; put the text in quotes",
                2);
  }
  const auto tokenizer = OpenTokenizer(model);
  if (!tokenizer.ok()) {
    return Fail(std::string(tokenizer.status().message()), 1);
  }
  if (!jsonl) {
    const bool is_given = !positional->empty() && positional->front() != "-";
    const std::string text =
        is_given ? positional->front()
                 : std::string(std::istreambuf_iterator<char>(std::cin), {});
    return Show(**tokenizer, text, add_special_tokens);
  }
  return AnswerStandardInput("quire tokenize", **tokenizer, TokenizeLine);
}

}  // namespace quire
