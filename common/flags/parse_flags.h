// SPDX-License-Identifier: Apache-2.0
//
// Command lines the way users of serving systems expect them: an unknown flag
// is answered with the nearest name, a bad value with the flag it was meant
// for, and every flag may also come from the environment as QUIRE_<NAME>.
#ifndef COMMON_FLAGS_PARSE_FLAGS_H_
#define COMMON_FLAGS_PARSE_FLAGS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace quire {

// Sets this program's ABSL_FLAGs from the environment, then from `argv` (which
// wins), and returns the positional arguments, program name left out.
// InvalidArgument is one line for the user; exit with status 2. --help and
// --version print and end the process, as absl does it.
absl::StatusOr<std::vector<std::string>> ParseFlags(int argc, char** argv);

// The candidate nearest to `name` by edit distance; "" if none is near (more
// than two letters and a third of the name would have to change).
std::string NearestName(absl::string_view name,
                        const std::vector<std::string>& candidates);

// Every flag defined in Quire's own files with its effective value.
std::map<std::string, std::string> EffectiveFlags();

}  // namespace quire

#endif  // COMMON_FLAGS_PARSE_FLAGS_H_
