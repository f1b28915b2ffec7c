// SPDX-License-Identifier: Apache-2.0
#include <google/protobuf/util/json_util.h>

#include <iostream>
#include <string>
#include <vector>

#include "common/status_macros.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/rpc.h"
#include "tools/cli/server_queries.h"
#include "tools/quire/commands.h"
#include "tools/quire/status_text.h"

namespace quire {
namespace {

std::string ToJson(const v1::StatusResponse& status) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  // A message of this build always prints.
  (void)google::protobuf::util::MessageToJsonString(status, &json, options);
  return json;
}

absl::StatusOr<v1::StatusResponse> AskStatus(const std::string& target,
                                             absl::Duration timeout) {
  const auto channel = MakeChannel(target);
  QUIRE_RETURN_IF_ERROR(
      WaitForServer(channel.get(), target, timeout, &std::cerr));
  return GetClusterStatus(channel, timeout);
}

}  // namespace

int StatusCommand(const std::vector<std::string>& args) {
  std::string target = "localhost:9000";
  double timeout_s = 5;
  bool json = false;
  FlagSet flags("quire status [--target=host:port] [--json]",
                "Shows a cluster's groups, ranks, epochs and block use.");
  flags.Add("target", &target, "the coordinator's control address");
  flags.AddSeconds("timeout_s", &timeout_s, "wait this long for an answer");
  flags.Add("json", &json, "print the whole answer as JSON");
  const auto positional = flags.Parse(args);
  if (!positional.ok() || !positional->empty()) {
    std::cerr << "quire status: "
              << (positional.ok() ? "unexpected argument " + positional->front()
                                  : std::string(positional.status().message()))
              << "\n";
    return 2;
  }
  if (flags.help_requested()) {
    std::cout << flags.Help();
    return 0;
  }
  const absl::StatusOr<v1::StatusResponse> status =
      AskStatus(target, absl::Seconds(timeout_s));
  if (!status.ok()) {
    std::cerr << "quire status: " << DescribeStatus(status.status()) << "\n";
    return 1;
  }
  std::cout << (json ? ToJson(*status) : StatusText(*status));
  return 0;
}

}  // namespace quire
