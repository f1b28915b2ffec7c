// SPDX-License-Identifier: Apache-2.0
//
// The commands of `quire`. Each takes the arguments that follow its name and
// returns the process's exit status: 0 done, 1 failed, 2 wrong usage, 130 and
// 143 interrupted.
#ifndef TOOLS_QUIRE_COMMANDS_H_
#define TOOLS_QUIRE_COMMANDS_H_

#include <string>
#include <vector>

namespace quire {

// Starts a coordinator and local workers and stays beside them.
int ServeCommand(const std::vector<std::string>& args);

// Streams the continuation of a prompt to standard output.
int GenerateCommand(const std::vector<std::string>& args);

// Talks with a served model.
int ChatCommand(const std::vector<std::string>& args);

// Shows a cluster's groups, ranks and blocks.
int StatusCommand(const std::vector<std::string>& args);

// Shows why a request has waited.
int ExplainCommand(const std::vector<std::string>& args);

// Shows the tokens of a text.
int TokenizeCommand(const std::vector<std::string>& args);

// Shows the text of tokens.
int DetokenizeCommand(const std::vector<std::string>& args);

}  // namespace quire

#endif  // TOOLS_QUIRE_COMMANDS_H_
