// SPDX-License-Identifier: Apache-2.0
#include "common/text/json_scanner.h"

namespace quire {
namespace {

constexpr char kOpen = '{', kClose = '}';  // of objects

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsHex(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

}  // namespace

JsonScanner::State JsonScanner::Push(char c) {
  switch (token_) {
    case Token::kString:
    case Token::kEscape:
    case Token::kHex:
      return PushInString(c);
    case Token::kWord:
      if (word_.empty() || c != word_.front()) return State::kBad;
      word_.remove_prefix(1);
      if (word_.empty()) {
        token_ = Token::kNone;
        EndValue();
      }
      return State::kMore;
    case Token::kNumber:
      if (NumberTakes(c)) return State::kMore;
      if (!NumberIsWhole()) return State::kBad;
      token_ = Token::kNone;
      EndValue();
      return PushOutside(c);
    case Token::kNone:
      return PushOutside(c);
  }
  return State::kBad;
}

JsonScanner::State JsonScanner::PushInString(char c) {
  if (token_ == Token::kHex) {
    if (!IsHex(c)) return State::kBad;
    if (--hex_left_ == 0) token_ = Token::kString;
  } else if (token_ == Token::kEscape) {
    if (std::string_view("\"\\/bfnrtu").find(c) == std::string_view::npos) {
      return State::kBad;
    }
    token_ = c == 'u' ? Token::kHex : Token::kString;
    hex_left_ = 4;
  } else if (c == '\\') {
    token_ = Token::kEscape;
  } else if (c == '"') {
    token_ = Token::kNone;
    expect_ = is_key_ ? Expect::kColon : Expect::kCommaOrEnd;
  } else if (static_cast<unsigned char>(c) < 0x20) {
    return State::kBad;
  }
  return State::kMore;
}

JsonScanner::State JsonScanner::PushOutside(char c) {
  if (IsSpace(c)) return State::kMore;
  if (c == kClose || c == ']') return Close(c);
  switch (expect_) {
    case Expect::kValue:
    case Expect::kValueOrEnd:
      return BeginValue(c);
    case Expect::kKey:
    case Expect::kKeyOrEnd:
      if (c != '"') return State::kBad;
      token_ = Token::kString;
      is_key_ = true;
      return State::kMore;
    case Expect::kColon:
      if (c != ':') return State::kBad;
      expect_ = Expect::kValue;
      return State::kMore;
    case Expect::kCommaOrEnd:
      if (c != ',' || open_.empty()) return State::kBad;
      expect_ = open_.back() == kOpen ? Expect::kKey : Expect::kValue;
      return State::kMore;
  }
  return State::kBad;
}

JsonScanner::State JsonScanner::BeginValue(char c) {
  if (c == kOpen || c == '[') {
    if (open_.size() >= kMaxDepth) return State::kBad;
    open_.push_back(c);
    expect_ = c == kOpen ? Expect::kKeyOrEnd : Expect::kValueOrEnd;
    return State::kMore;
  }
  if (open_.empty()) return State::kBad;  // no object and no array
  if (c == '"') {
    token_ = Token::kString;
    is_key_ = false;
  } else if (c == '-' || IsDigit(c)) {
    token_ = Token::kNumber;
    number_ = c == '-'   ? Number::kMinus
              : c == '0' ? Number::kZero
                         : Number::kInt;
  } else if (c == 't' || c == 'f' || c == 'n') {
    token_ = Token::kWord;
    word_ = c == 't' ? "rue" : c == 'f' ? "alse" : "ull";
  } else {
    return State::kBad;
  }
  return State::kMore;
}

JsonScanner::State JsonScanner::Close(char c) {
  if (open_.empty() || open_.back() != (c == kClose ? kOpen : '[')) {
    return State::kBad;
  }
  const Expect empty = c == kClose ? Expect::kKeyOrEnd : Expect::kValueOrEnd;
  if (expect_ != empty && expect_ != Expect::kCommaOrEnd) return State::kBad;
  open_.pop_back();
  EndValue();
  return open_.empty() ? State::kDone : State::kMore;
}

bool JsonScanner::NumberTakes(char c) {
  const auto become = [this](Number number) {
    number_ = number;
    return true;
  };
  switch (number_) {
    case Number::kMinus:
      return IsDigit(c) && become(c == '0' ? Number::kZero : Number::kInt);
    case Number::kInt:
      if (IsDigit(c)) return true;
      [[fallthrough]];
    case Number::kZero:
      if (c == '.') return become(Number::kPoint);
      return (c == 'e' || c == 'E') && become(Number::kE);
    case Number::kPoint:
      return IsDigit(c) && become(Number::kFraction);
    case Number::kFraction:
      if (IsDigit(c)) return true;
      return (c == 'e' || c == 'E') && become(Number::kE);
    case Number::kE:
      if (c == '+' || c == '-') return become(Number::kSign);
      [[fallthrough]];
    case Number::kSign:
      return IsDigit(c) && become(Number::kExp);
    case Number::kExp:
      return IsDigit(c);
  }
  return false;
}

bool JsonScanner::NumberIsWhole() const {
  return number_ == Number::kZero || number_ == Number::kInt ||
         number_ == Number::kFraction || number_ == Number::kExp;
}

}  // namespace quire
