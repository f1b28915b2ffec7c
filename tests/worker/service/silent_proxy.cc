// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/service/silent_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

void Set(int event_fd) {
  const uint64_t one = 1;
  PCHECK(write(event_fd, &one, sizeof(one)) == sizeof(one));
}

// Passes on, or drops, what can be read. Whether more may come.
bool Pass(int from, int to, bool is_silent) {
  char bytes[16 << 10];
  const ssize_t num_bytes = read(from, bytes, sizeof(bytes));
  if (num_bytes <= 0) return false;
  for (ssize_t sent = 0; !is_silent && sent < num_bytes;) {
    const ssize_t more = send(to, bytes + sent, num_bytes - sent, MSG_NOSIGNAL);
    if (more <= 0) return false;
    sent += more;
  }
  return true;
}

}  // namespace

SilentProxy::SilentProxy(const std::string& target)
    : listening_fd_(socket(AF_INET, SOCK_STREAM, 0)),
      silence_fd_(eventfd(0, EFD_CLOEXEC)),
      end_fd_(eventfd(0, EFD_CLOEXEC)) {
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  PCHECK(bind(listening_fd_, any, size) == 0);
  PCHECK(listen(listening_fd_, 1) == 0);
  PCHECK(getsockname(listening_fd_, any, &size) == 0);
  port_ = ntohs(address.sin_port);
  const int target_port = std::stoi(target.substr(target.rfind(':') + 1));
  thread_ = std::thread([this, target_port] { Run(target_port); });
}

SilentProxy::~SilentProxy() {
  Set(end_fd_);
  thread_.join();
  for (const int fd : {listening_fd_, silence_fd_, end_fd_}) close(fd);
}

std::string SilentProxy::address() const {
  return absl::StrCat("127.0.0.1:", port_);
}

void SilentProxy::FallSilent() { Set(silence_fd_); }

void SilentProxy::Run(int target_port) {
  pollfd first[] = {{listening_fd_, POLLIN, 0}, {end_fd_, POLLIN, 0}};
  poll(first, 2, /*timeout=*/-1);
  if (first[1].revents != 0) return;
  const int client = accept(listening_fd_, nullptr, nullptr);
  const int server = socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = Loopback(target_port);
  PCHECK(connect(server, reinterpret_cast<const sockaddr*>(&address),
                 sizeof(address)) == 0);
  bool is_silent = false;
  while (true) {
    pollfd fds[] = {{client, POLLIN, 0},
                    {server, POLLIN, 0},
                    {end_fd_, POLLIN, 0},
                    {is_silent ? -1 : silence_fd_, POLLIN, 0}};
    poll(fds, 4, /*timeout=*/-1);
    if (fds[2].revents != 0) break;
    is_silent |= fds[3].revents != 0;
    if (fds[0].revents != 0 && !Pass(client, server, is_silent)) break;
    if (fds[1].revents != 0 && !Pass(server, client, is_silent)) break;
  }
  close(client);
  close(server);
}

}  // namespace quire
