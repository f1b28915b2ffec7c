// SPDX-License-Identifier: Apache-2.0
//
// How the command-line tools reach a server and speak of what went wrong.
#ifndef TOOLS_CLI_RPC_H_
#define TOOLS_CLI_RPC_H_

#include <memory>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace quire {

// A channel to "host:port". `index` tells apart channels that must not share
// one connection.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& target,
                                           int index = 0);

// Waits until a server listens at the channel's end. Unavailable, in one line
// with the remedy, when none does within `timeout`; InvalidArgument if `target`
// is empty. A wait that people could notice is told on `err`, if there is one.
absl::Status WaitForServer(grpc::Channel* channel, const std::string& target,
                           absl::Duration timeout, std::ostream* err = nullptr);

// One line for people: the message, then the code's name.
std::string DescribeStatus(const absl::Status& status);

}  // namespace quire

#endif  // TOOLS_CLI_RPC_H_
