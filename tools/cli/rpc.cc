// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/rpc.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace quire {
namespace {

// Of a wait that needs no word.
constexpr absl::Duration kSilence = absl::Milliseconds(500);

// Instead of no message. A server that knows no such call says nothing else.
std::string ReasonOf(absl::StatusCode code) {
  if (code != absl::StatusCode::kUnimplemented) return "no reason given";
  return "that server knows no such call; `quire status` asks the control "
         "address of `quire serve`, all else its gRPC address";
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& target,
                                           int index) {
  grpc::ChannelArguments args;
  // Channels with equal arguments would share one connection.
  args.SetInt("quire.channel_index", index);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  args.SetMaxReceiveMessageSize(64 << 20);
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(),
                                   args);
}

absl::Status WaitForServer(grpc::Channel* channel, const std::string& target,
                           absl::Duration timeout, std::ostream* err) {
  if (target.empty()) {
    return absl::InvalidArgumentError(
        "--target is empty: want the host:port of a server");
  }
  const absl::Time start = absl::Now();
  const auto connects_by = [channel](absl::Time deadline) {
    return channel->WaitForConnected(absl::ToChronoTime(deadline));
  };
  if (err != nullptr && timeout > kSilence) {
    if (connects_by(start + kSilence)) return absl::OkStatus();
    *err << "waiting up to " << absl::FormatDuration(timeout)
         << " for a server at " << target << std::endl;
  }
  if (connects_by(start + timeout)) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("no server answers at ", target,
                   "; start one with `quire serve --model DIR`, or name "
                   "another with --target=host:port"));
}

std::string DescribeStatus(const absl::Status& status) {
  const std::string message =
      absl::StrReplaceAll(status.message(), {{"\n", " "}});
  return absl::StrCat(message.empty() ? ReasonOf(status.code()) : message, " (",
                      absl::StatusCodeToString(status.code()), ")");
}

}  // namespace quire
