// SPDX-License-Identifier: Apache-2.0
//
// Finds the end of a JSON value in text that is still being written, and the
// first byte at which it cannot be JSON any more.
#ifndef COMMON_TEXT_JSON_SCANNER_H_
#define COMMON_TEXT_JSON_SCANNER_H_

#include <string>
#include <string_view>

namespace quire {

// One object or array, white space before it included. Checks the grammar of
// RFC 8259, but for what strings hold beyond escapes and control characters.
//
// Thread-compatible value.
class JsonScanner {
 public:
  enum class State {
    kMore,  // the value goes on
    kDone,  // the byte closed it
    kBad,   // the byte cannot follow, or closes nothing
  };
  // Deeper values are bad.
  static constexpr size_t kMaxDepth = 64;

  // REQUIRES: the last state was kMore.
  State Push(char c);

  // Objects and arrays around the next byte.
  size_t depth() const { return open_.size(); }
  bool is_in_string() const {
    return token_ == Token::kString || token_ == Token::kEscape ||
           token_ == Token::kHex;
  }
  // Whether the string that just ended is a key.
  bool is_after_key() const { return expect_ == Expect::kColon; }

 private:
  // What the grammar expects next.
  enum class Expect {
    kValue,
    kValueOrEnd,  // after '['
    kKeyOrEnd,    // after '{'
    kKey,         // after ',' in an object
    kColon,
    kCommaOrEnd,
  };
  enum class Token { kNone, kString, kEscape, kHex, kNumber, kWord };

  State PushInString(char c);
  State PushOutside(char c);
  State BeginValue(char c);
  State Close(char c);
  bool NumberTakes(char c);
  bool NumberIsWhole() const;
  void EndValue() { expect_ = Expect::kCommaOrEnd; }

  std::string open_;  // '{' and '[' around the next byte
  Expect expect_ = Expect::kValue;
  Token token_ = Token::kNone;
  bool is_key_ = false;  // the string being read
  int hex_left_ = 0;
  std::string_view word_;  // what is left of true, false or null
  // Of a number: where in -0.0e+0 its last byte stands.
  enum class Number { kMinus, kZero, kInt, kPoint, kFraction, kE, kSign, kExp };
  Number number_ = Number::kMinus;
};

}  // namespace quire

#endif  // COMMON_TEXT_JSON_SCANNER_H_
