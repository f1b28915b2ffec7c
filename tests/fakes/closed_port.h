// SPDX-License-Identifier: Apache-2.0
//
// A port on which nobody listens, and nobody will.
#ifndef TESTS_FAKES_CLOSED_PORT_H_
#define TESTS_FAKES_CLOSED_PORT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {

// A port that a server has given back may be another test's a moment later. So
// this one is held, by a socket that never listens: who connects is refused.
class ClosedPort {
 public:
  ClosedPort() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    PCHECK(socket_ >= 0);
    sockaddr_in here = {};
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const name = reinterpret_cast<sockaddr*>(&here);
    socklen_t size = sizeof(here);
    PCHECK(bind(socket_, name, size) == 0);
    PCHECK(getsockname(socket_, name, &size) == 0);
    port_ = ntohs(here.sin_port);
  }
  ~ClosedPort() { close(socket_); }

  ClosedPort(const ClosedPort&) = delete;
  ClosedPort& operator=(const ClosedPort&) = delete;

  int port() const { return port_; }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  const int socket_;
  int port_ = 0;
};

}  // namespace quire

#endif  // TESTS_FAKES_CLOSED_PORT_H_
