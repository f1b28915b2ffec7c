// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/flag_set.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/flags/parse_flags.h"
#include "common/status_macros.h"

namespace quire {
namespace {

constexpr size_t kHelpColumn = 32;
constexpr size_t kHelpWidth = 80;

absl::Status BadValue(absl::string_view name, absl::string_view value,
                      absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", name, "=", value, " is not ", want));
}

absl::Status ParseValue(absl::string_view, absl::string_view value,
                        std::string* out) {
  *out = std::string(value);
  return absl::OkStatus();
}

absl::Status ParseValue(absl::string_view name, absl::string_view value,
                        bool* out) {
  if (absl::SimpleAtob(value, out)) {
    return absl::OkStatus();
  }
  return BadValue(name, value, "true or false");
}

absl::Status ParseValue(absl::string_view name, absl::string_view value,
                        int64_t* out) {
  if (absl::SimpleAtoi(value, out)) {
    return absl::OkStatus();
  }
  return BadValue(name, value, "a whole number of at most 64 bits");
}

absl::Status ParseValue(absl::string_view name, absl::string_view value,
                        double* out) {
  if (absl::SimpleAtod(value, out)) {
    return absl::OkStatus();
  }
  return BadValue(name, value, "a number");
}

template <typename T>
auto Setter(T* target) {
  return [target](absl::string_view name, absl::string_view value) {
    return ParseValue(name, value, target);
  };
}

template <typename T>
auto Setter(std::optional<T>* target) {
  return [target](absl::string_view name, absl::string_view value) {
    T parsed{};
    QUIRE_RETURN_IF_ERROR(ParseValue(name, value, &parsed));
    *target = parsed;
    return absl::OkStatus();
  };
}

bool LooksLikeFlag(const std::string& arg) {
  return arg.size() > 2 && absl::StartsWith(arg, "--");
}

// `text` in lines that start at kHelpColumn, the first one excepted.
std::string Wrap(const std::string& text) {
  std::string out;
  size_t column = kHelpColumn;
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (column > kHelpColumn && column + 1 + word.size() > kHelpWidth) {
      absl::StrAppend(&out, "\n", std::string(kHelpColumn, ' '));
      column = kHelpColumn;
    } else if (column > kHelpColumn) {
      out.push_back(' ');
      ++column;
    }
    absl::StrAppend(&out, word);
    column += word.size();
  }
  return out;
}

}  // namespace

FlagSet::FlagSet(std::string usage, std::string summary)
    : usage_(std::move(usage)), summary_(std::move(summary)) {}

void FlagSet::Add(std::string name, std::string* target, std::string help) {
  flags_[name] = {
      .help = std::move(help), .default_text = *target, .set = Setter(target)};
}

void FlagSet::Add(std::string name, bool* target, std::string help) {
  flags_[name] = {.help = std::move(help),
                  .default_text = *target ? "true" : "",
                  .is_boolean = true,
                  .set = Setter(target)};
}

void FlagSet::Add(std::string name, int64_t* target, std::string help) {
  flags_[name] = {.help = std::move(help),
                  .default_text = absl::StrCat(*target),
                  .set = Setter(target)};
}

void FlagSet::Add(std::string name, double* target, std::string help) {
  flags_[name] = {.help = std::move(help),
                  .default_text = absl::StrCat(*target),
                  .set = Setter(target)};
}

void FlagSet::Add(std::string name, std::optional<bool>* target,
                  std::string help) {
  flags_[name] = {
      .help = std::move(help), .is_boolean = true, .set = Setter(target)};
}

void FlagSet::Add(std::string name, std::optional<int64_t>* target,
                  std::string help) {
  flags_[name] = {.help = std::move(help), .set = Setter(target)};
}

void FlagSet::Add(std::string name, std::optional<double>* target,
                  std::string help) {
  flags_[name] = {.help = std::move(help), .set = Setter(target)};
}

void FlagSet::AddSeconds(std::string name, double* target, std::string help) {
  auto set = [target](absl::string_view flag, absl::string_view value) {
    QUIRE_RETURN_IF_ERROR(ParseValue(flag, value, target));
    if (*target >= 0) return absl::OkStatus();
    return BadValue(flag, value, "0 or more seconds");
  };
  flags_[name] = {.help = std::move(help),
                  .default_text = absl::StrCat(*target),
                  .set = std::move(set)};
}

void FlagSet::AddRepeated(std::string name, std::vector<std::string>* target,
                          std::string help) {
  auto set = [target](absl::string_view, absl::string_view value) {
    target->emplace_back(value);
    return absl::OkStatus();
  };
  flags_[name] = {.help = std::move(help), .set = set};
}

void FlagSet::AddList(std::string name, std::vector<std::string>* target,
                      std::string help) {
  // The first value replaces the default.
  auto set = [this, target](absl::string_view flag, absl::string_view value) {
    Flag& entry = flags_.find(flag)->second;
    if (!entry.given) target->clear();
    entry.given = true;
    const std::vector<std::string> parts =
        absl::StrSplit(value, absl::ByAnyChar(", "), absl::SkipEmpty());
    target->insert(target->end(), parts.begin(), parts.end());
    return absl::OkStatus();
  };
  std::string default_text;
  for (const std::string& value : *target) {
    absl::StrAppend(&default_text, default_text.empty() ? "" : ",", value);
  }
  flags_[name] = {.help = std::move(help),
                  .default_text = std::move(default_text),
                  .is_list = true,
                  .set = std::move(set)};
}

void FlagSet::AddList(std::string name,
                      std::optional<std::vector<std::string>>* target,
                      std::string help) {
  auto set = [target](absl::string_view, absl::string_view value) {
    if (!target->has_value()) target->emplace();
    const std::vector<std::string> parts =
        absl::StrSplit(value, absl::ByAnyChar(", "), absl::SkipEmpty());
    (*target)->insert((*target)->end(), parts.begin(), parts.end());
    return absl::OkStatus();
  };
  flags_[name] = {.help = std::move(help), .is_list = true, .set = set};
}

absl::Status FlagSet::ReadEnvironment() {
  for (auto& [name, flag] : flags_) {
    const std::string variable =
        absl::StrCat("QUIRE_", absl::AsciiStrToUpper(name));
    const char* value = std::getenv(variable.c_str());
    if (value == nullptr) continue;
    QUIRE_RETURN_IF_ERROR(flag.set(name, value));
    flag.given = true;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FlagSet::Parse(
    const std::vector<std::string>& args) {
  std::vector<std::string> positional;
  size_t idx = 0;
  while (idx < args.size()) {
    if (args[idx] == "--") {
      positional.insert(positional.end(), args.begin() + idx + 1, args.end());
      break;
    }
    if (args[idx] == "-h" || args[idx] == "--help") {
      help_requested_ = true;
      ++idx;
    } else if (LooksLikeFlag(args[idx])) {
      QUIRE_RETURN_IF_ERROR(ParseFlag(args, &idx));
    } else {
      positional.push_back(args[idx++]);
    }
  }
  return positional;
}

absl::Status FlagSet::ParseFlag(const std::vector<std::string>& args,
                                size_t* idx) {
  const std::string& arg = args[*idx];
  const size_t equals = arg.find('=');
  const bool has_value = equals != std::string::npos;
  const std::string name = absl::StrReplaceAll(
      arg.substr(2, has_value ? equals - 2 : std::string::npos), {{"-", "_"}});
  std::string value = has_value ? arg.substr(equals + 1) : "";

  auto it = flags_.find(name);
  if (it == flags_.end() && !has_value && absl::StartsWith(name, "no")) {
    const size_t skip = absl::StartsWith(name, "no_") ? 3 : 2;
    it = flags_.find(name.substr(skip));
    if (it != flags_.end() && !it->second.is_boolean) it = flags_.end();
    value = "false";
  } else if (it != flags_.end() && it->second.is_boolean && !has_value) {
    value = "true";
  }
  if (it == flags_.end()) return UnknownFlag(args, idx, name);

  Flag& flag = it->second;
  ++*idx;
  if (!has_value && !flag.is_boolean) {
    if (*idx == args.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " needs a value"));
    }
    value = args[(*idx)++];
  }
  QUIRE_RETURN_IF_ERROR(flag.set(it->first, value));
  while (flag.is_list && !has_value && *idx < args.size() &&
         !LooksLikeFlag(args[*idx])) {
    QUIRE_RETURN_IF_ERROR(flag.set(it->first, args[(*idx)++]));
  }
  flag.given = true;
  return absl::OkStatus();
}

absl::Status FlagSet::UnknownFlag(const std::vector<std::string>& args,
                                  size_t* idx, absl::string_view name) {
  if (unknown_ != nullptr) {
    const bool has_value = args[*idx].find('=') != std::string::npos;
    unknown_->push_back(args[(*idx)++]);
    if (!has_value && *idx < args.size() && !LooksLikeFlag(args[*idx])) {
      unknown_->back() += "=" + args[(*idx)++];
    }
    return absl::OkStatus();
  }
  std::vector<std::string> names;
  for (const auto& [known, flag] : flags_) names.push_back(known);
  const std::string nearest = NearestName(name, names);
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown flag --", name, "; ",
      nearest.empty() ? "--help lists the flags"
                      : absl::StrCat("did you mean --", nearest, "?")));
}

bool FlagSet::WasGiven(absl::string_view name) const {
  const auto it = flags_.find(name);
  return it != flags_.end() && it->second.given;
}

std::string FlagSet::Help() const {
  std::string out =
      absl::StrCat(summary_, "\n\nusage: ", usage_, "\n\nflags:\n");
  for (const auto& [name, flag] : flags_) {
    std::string left = absl::StrCat("  --", name);
    left.resize(std::max(left.size() + 2, kHelpColumn), ' ');
    std::string help = flag.help;
    if (!flag.default_text.empty()) {
      absl::StrAppend(&help, " (default ", flag.default_text, ")");
    }
    absl::StrAppend(&out, left, Wrap(help), "\n");
  }
  return out;
}

}  // namespace quire
