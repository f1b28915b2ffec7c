// SPDX-License-Identifier: Apache-2.0
//
// quire: serve a model on this machine, ask it, look at it.

#include <iostream>
#include <string>
#include <vector>

#include "common/flags/parse_flags.h"
#include "tools/cli/program.h"
#include "tools/quire/commands.h"

namespace {

constexpr char kUsage[] =
    R"(quire serves large language models from paged KV memory.

usage: quire COMMAND [flags]

  quire serve --model=DIR [--tensor_parallel_size=2] [--device=cpu]
      start a coordinator and its workers on this machine
  quire generate "Once upon a time" [--target=localhost:8001]
      stream a continuation to the terminal
  quire generate --input=prompts.jsonl --output=answers.jsonl [--model=DIR]
      answer a file of prompts without a server; goes on after a kill
  quire chat [--target=localhost:8001] [--system="Be brief."]
      talk with a model that has a chat template
  quire status [--target=localhost:9000]
      show workers, epochs and block use
  quire explain REQUEST_ID [--target=localhost:8001]
      show why a request has waited
  quire tokenize "some text" [--model=DIR]
      show a text's tokens; --jsonl: answer lines of JSON
  quire detokenize 464 3797 [--model=DIR]
      show tokens' text; --jsonl: answer lines of JSON

`quire COMMAND --help` lists a command's flags.
)";

struct Command {
  std::string name;
  int (*run)(const std::vector<std::string>& args);
};

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);  // nothing here uses stdio
  quire::BeginProgram(argv[0]);
  const std::vector<Command> commands = {
      {"serve", quire::ServeCommand},
      {"generate", quire::GenerateCommand},
      {"chat", quire::ChatCommand},
      {"status", quire::StatusCommand},
      {"explain", quire::ExplainCommand},
      {"tokenize", quire::TokenizeCommand},
      {"detokenize", quire::DetokenizeCommand},
  };
  const std::string wanted = argc > 1 ? argv[1] : "";
  if (wanted == "--help" || wanted == "-h" || wanted == "help") {
    std::cout << kUsage;
    return 0;
  }
  std::vector<std::string> names;
  for (const Command& command : commands) {
    if (command.name == wanted) return command.run({argv + 2, argv + argc});
    names.push_back(command.name);
  }
  if (wanted.empty()) {
    std::cerr << kUsage;
    return 2;
  }
  const std::string nearest = quire::NearestName(wanted, names);
  std::cerr << "quire: unknown command " << wanted << "; "
            << (nearest.empty() ? "`quire --help` lists them"
                                : "did you mean " + nearest + "?")
            << "\n";
  return 2;
}
