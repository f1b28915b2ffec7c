// SPDX-License-Identifier: Apache-2.0
//
// The flags of one command, as a table that parses and documents itself. The
// commands of `quire` share a process name but not their flags, so each has a
// table of its own instead of a global registry.
#ifndef TOOLS_CLI_FLAG_SET_H_
#define TOOLS_CLI_FLAG_SET_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace quire {

// Accepts --name=value, --name value, and --name, --noname for booleans;
// dashes inside a name count as underscores. "--" ends the flags.
//
// Thread-compatible. The targets of the flags are borrowed.
class FlagSet {
 public:
  // `usage` is one line such as `quire generate "prompt" [flags]`.
  FlagSet(std::string usage, std::string summary);

  // Each flag writes to `target`, whose value at this time is the default.
  void Add(std::string name, std::string* target, std::string help);
  void Add(std::string name, bool* target, std::string help);
  void Add(std::string name, int64_t* target, std::string help);
  void Add(std::string name, double* target, std::string help);
  void Add(std::string name, std::optional<bool>* target, std::string help);
  void Add(std::string name, std::optional<int64_t>* target, std::string help);
  void Add(std::string name, std::optional<double>* target, std::string help);
  // 0 or more; inf is for ever.
  void AddSeconds(std::string name, double* target, std::string help);
  // One value each time the flag is given.
  void AddRepeated(std::string name, std::vector<std::string>* target,
                   std::string help);
  // Values separated by commas or blanks, or as the arguments that follow.
  void AddList(std::string name, std::vector<std::string>* target,
               std::string help);
  // The same; a flag that is given without values leaves an empty list.
  void AddList(std::string name,
               std::optional<std::vector<std::string>>* target,
               std::string help);

  // Unknown flags are kept, with their values, instead of refused.
  void PassUnknownTo(std::vector<std::string>* unknown) { unknown_ = unknown; }

  // Sets the targets from environment variables: --some_flag from
  // QUIRE_SOME_FLAG. Call it before Parse, which then wins. InvalidArgument
  // for a malformed value.
  absl::Status ReadEnvironment();

  // Sets the targets and returns the other arguments. InvalidArgument, in one
  // line, for a malformed value or an unknown flag (naming the nearest one).
  absl::StatusOr<std::vector<std::string>> Parse(
      const std::vector<std::string>& args);

  // Whether --help or -h was among the parsed arguments.
  bool help_requested() const { return help_requested_; }
  // Whether the flag was among the parsed arguments or in the environment.
  bool WasGiven(absl::string_view name) const;
  std::string Help() const;

 private:
  struct Flag {
    std::string help;
    std::string default_text = "";  // empty: none worth printing
    bool is_boolean = false;
    bool is_list = false;
    bool given = false;
    std::function<absl::Status(absl::string_view name, absl::string_view value)>
        set;
  };

  // Handles args[*idx], which begins with "--", and advances past its values.
  absl::Status ParseFlag(const std::vector<std::string>& args, size_t* idx);
  absl::Status UnknownFlag(const std::vector<std::string>& args, size_t* idx,
                           absl::string_view name);

  std::string usage_;
  std::string summary_;
  std::map<std::string, Flag, std::less<>> flags_;
  std::vector<std::string>* unknown_ = nullptr;
  bool help_requested_ = false;
};

}  // namespace quire

#endif  // TOOLS_CLI_FLAG_SET_H_
