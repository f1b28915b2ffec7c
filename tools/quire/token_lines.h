// SPDX-License-Identifier: Apache-2.0
//
// Lines of JSON with texts to lines of JSON with tokens, and back, as Hugging
// Face's library would answer them.
#ifndef TOOLS_QUIRE_TOKEN_LINES_H_
#define TOOLS_QUIRE_TOKEN_LINES_H_

#include <cstdint>
#include <istream>
#include <ostream>
#include <string>

#include "common/text/tokenizer.h"

namespace quire {

// Each returns a line of JSON without its end. A line that is no such request
// gives {"error": "line 3: ..."}, and `is_good` is set to false.

// {"text", "add_special_tokens": true} -> {"tokens"}. Spellings of control
// tokens are the control tokens.
std::string TokenizeLine(const Tokenizer& tokenizer, int64_t number,
                         const std::string& line, bool* is_good);
// {"tokens", "skip_special_tokens": true} -> {"text"}
std::string DetokenizeLine(const Tokenizer& tokenizer, int64_t number,
                           const std::string& line, bool* is_good);

struct LineCounts {
  int64_t num_lines = 0;
  int64_t num_bad = 0;
  std::string first_error;  // of the bad ones
};

using LineFunction = std::string (*)(const Tokenizer&, int64_t,
                                     const std::string&, bool*);

// Answers every line of `in`, one for one. Whoever waits for an answer before
// writing the next line gets it.
LineCounts AnswerLines(const Tokenizer& tokenizer, LineFunction answer,
                       std::istream* in, std::ostream* out);

// Answers standard input on standard output, and says on standard error, in the
// name of `command`, how many lines were bad. Returns the exit status: 1 if any
// was.
int AnswerStandardInput(const std::string& command, const Tokenizer& tokenizer,
                        LineFunction answer);

}  // namespace quire

#endif  // TOOLS_QUIRE_TOKEN_LINES_H_
