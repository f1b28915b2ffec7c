// SPDX-License-Identifier: Apache-2.0
//
// How the tools' programs begin.
#ifndef TOOLS_CLI_PROGRAM_H_
#define TOOLS_CLI_PROGRAM_H_

namespace quire {

// Logs to standard error under the name of `program`, argv[0], keeps gRPC's own
// log out of it, ends lock order checks, and goes where the user stands. Call it
// once, first in main().
void BeginProgram(const char* program);

}  // namespace quire

#endif  // TOOLS_CLI_PROGRAM_H_
