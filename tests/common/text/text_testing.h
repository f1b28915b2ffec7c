// SPDX-License-Identifier: Apache-2.0
//
// The small tokenizers of testdata/ and what Hugging Face's library makes of
// them; tests/golden/make_tokenizers.py wrote both.
#ifndef TESTS_COMMON_TEXT_TEXT_TESTING_H_
#define TESTS_COMMON_TEXT_TEXT_TESTING_H_

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/text/tokenizer.h"

namespace quire {

// Every kind of tokenizer that testdata/ holds.
inline constexpr const char* kTokenizerKinds[] = {
    "byte_level",      "byte_fallback", "unigram", "word_piece",
    "bpe_suffix",      "gpt2",          "qwen",    "gemma",
    "metaspace_first", "word_level",    "ctc"};

// The bytes of testdata/`name`; the test dies if there is no such file.
std::string ReadTestData(const std::string& name);

// The bytes of templates/`name`; likewise.
std::string ReadTemplateData(const std::string& name);

// The tokenizer of a kind; the test dies if it does not load.
std::unique_ptr<Tokenizer> LoadTestTokenizer(const std::string& kind);

// {"encode": [{text, as_text, parsed_with_special, decoded, decoded_all}],
//  "decode": [{ids, text, text_all}]}
nlohmann::json ReadGolden(const std::string& kind);

}  // namespace quire

#endif  // TESTS_COMMON_TEXT_TEXT_TESTING_H_
