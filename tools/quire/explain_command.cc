// SPDX-License-Identifier: Apache-2.0
#include <iostream>
#include <string>
#include <vector>

#include "common/status_macros.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/rpc.h"
#include "tools/cli/server_queries.h"
#include "tools/quire/commands.h"
#include "tools/quire/explain_text.h"
#include "tools/quire/text_check.h"

namespace quire {
namespace {

absl::StatusOr<v1::ExplainResponse> AskWhy(const std::string& request_id,
                                           const std::string& target,
                                           absl::Duration timeout) {
  const auto channel = MakeChannel(target);
  QUIRE_RETURN_IF_ERROR(
      WaitForServer(channel.get(), target, timeout, &std::cerr));
  return ExplainRequest(channel, request_id, timeout);
}

}  // namespace

int ExplainCommand(const std::vector<std::string>& args) {
  std::string target = "localhost:8001";
  double timeout_s = 5;
  FlagSet flags("quire explain REQUEST_ID [--target=host:port]",
                "Shows why a request has waited, and for how long.");
  flags.Add("target", &target, "the coordinator's public address");
  flags.AddSeconds("timeout_s", &timeout_s, "wait this long for an answer");
  const auto positional = flags.Parse(args);
  if (positional.ok() && flags.help_requested()) {
    std::cout << flags.Help();
    return 0;
  }
  if (!positional.ok() || positional->size() != 1) {
    std::cerr << "quire explain: "
              << (positional.ok() ? "give one request id"
                                  : std::string(positional.status().message()))
              << "\n";
    return 2;
  }
  const absl::Status is_text = CheckText("the request id", positional->front());
  if (!is_text.ok()) {
    std::cerr << "quire explain: " << is_text.message() << "\n";
    return 2;
  }
  const absl::StatusOr<v1::ExplainResponse> explained =
      AskWhy(positional->front(), target, absl::Seconds(timeout_s));
  if (!explained.ok()) {
    std::cerr << "quire explain: " << DescribeStatus(explained.status())
              << "\n";
    return 1;
  }
  std::cout << ExplainText(*explained);
  return 0;
}

}  // namespace quire
