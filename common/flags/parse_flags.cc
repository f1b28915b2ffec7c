// SPDX-License-Identifier: Apache-2.0
#include "common/flags/parse_flags.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace quire {
namespace {

constexpr absl::string_view kVersion = "0.1.0";

// By name, so that messages and help come in a stable order.
std::map<std::string, absl::CommandLineFlag*> OwnFlags() {
  std::map<std::string, absl::CommandLineFlag*> own;
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    // Abseil defines some of its own in every program.
    if (absl::StrContains(flag->Filename(), "absl/")) continue;
    if (!flag->IsRetired()) own.emplace(name, flag);
  }
  return own;
}

size_t EditDistance(absl::string_view a, absl::string_view b) {
  // One row of the Levenshtein table, for prefixes of `b`.
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replace});
    }
  }
  return row[b.size()];
}

[[noreturn]] void PrintHelp(absl::string_view program) {
  std::cout << "Usage: " << program << " [--flag=value ...]\n";
  for (const auto& [name, flag] : OwnFlags()) {
    std::cout << "  --" << name << "  " << flag->Help() << "\n";
    const std::string value = flag->DefaultValue();
    if (!value.empty()) std::cout << "      default: " << value << "\n";
  }
  std::cout.flush();
  std::exit(0);
}

absl::Status UnknownFlag(absl::string_view name) {
  std::vector<std::string> names;
  for (const auto& [known, flag] : OwnFlags()) names.push_back(known);
  const std::string nearest = NearestName(name, names);
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown flag --", name, "; ",
      nearest.empty() ? "--help lists all flags"
                      : absl::StrCat("did you mean --", nearest, "?")));
}

absl::Status Set(absl::string_view source, absl::string_view value,
                 absl::CommandLineFlag* flag) {
  std::string error;
  if (flag->ParseFrom(value, &error)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      source, " cannot be \"", value, "\"", error.empty() ? "" : ": ", error));
}

absl::Status ReadEnvironment() {
  for (const auto& [name, flag] : OwnFlags()) {
    const std::string variable =
        absl::StrCat("QUIRE_", absl::AsciiStrToUpper(name));
    const char* value = std::getenv(variable.c_str());
    if (value == nullptr) continue;
    if (absl::Status status = Set(variable, value, flag); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string NearestName(absl::string_view name,
                        const std::vector<std::string>& candidates) {
  std::string nearest;
  size_t least = std::max<size_t>(name.size() / 3, 2) + 1;  // to undercut
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(name, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

absl::StatusOr<std::vector<std::string>> ParseFlags(int argc, char** argv) {
  if (absl::Status status = ReadEnvironment(); !status.ok()) return status;
  const auto own = OwnFlags();
  std::vector<std::string> positional;
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    if (arg == "--") {
      positional.insert(positional.end(), argv + i + 1, argv + argc);
      break;
    }
    if (arg.size() < 2 || arg[0] != '-') {
      positional.emplace_back(arg);
      continue;
    }
    arg.remove_prefix(absl::StartsWith(arg, "--") ? 2 : 1);
    const size_t equals = arg.find('=');
    // vLLM spells its flags with dashes; both are understood.
    const std::string name =
        absl::StrReplaceAll(arg.substr(0, equals), {{"-", "_"}});
    if (name == "help" || name == "h") PrintHelp(argv[0]);
    if (name == "version") {
      std::cout << "quire " << kVersion << std::endl;
      std::exit(0);
    }
    const bool negated = absl::StartsWith(name, "no") &&
                         own.find(name) == own.end() &&
                         equals == absl::string_view::npos;
    const auto found = own.find(negated ? name.substr(2) : name);
    if (found == own.end() || (negated && !found->second->IsOfType<bool>())) {
      return UnknownFlag(name);
    }
    std::string value = negated ? "false" : "true";
    if (equals != absl::string_view::npos) {
      value = std::string(arg.substr(equals + 1));
    } else if (!found->second->IsOfType<bool>()) {
      if (++i == argc) {
        return absl::InvalidArgumentError(
            absl::StrCat("--", name, " needs a value: --", name, "=..."));
      }
      value = argv[i];
    }
    absl::Status status = Set(absl::StrCat("--", name), value, found->second);
    if (!status.ok()) return status;
  }
  return positional;
}

std::map<std::string, std::string> EffectiveFlags() {
  std::map<std::string, std::string> values;
  for (const auto& [name, flag] : OwnFlags()) {
    values.emplace(name, flag->CurrentValue());
  }
  return values;
}

}  // namespace quire
