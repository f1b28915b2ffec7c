// SPDX-License-Identifier: Apache-2.0
#include "common/listen_host.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace quire {
namespace {

absl::Status Refuse(const std::string& host, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(
      "--host=", host, ": ", reason,
      "; give an address or a name of this machine, such as 127.0.0.1, or "
      "0.0.0.0 for all that it has"));
}

// 0, or the error of listening at a free port of `address`.
int TryToBind(const addrinfo& address) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int error =
      bind(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  close(fd);
  return error;
}

}  // namespace

absl::Status CheckListenHost(const std::string& host) {
  std::string name = host;
  if (name.size() > 2 && name.front() == '[' && name.back() == ']') {
    name = name.substr(1, name.size() - 2);
  } else if (name.find(':') != std::string::npos) {
    return Refuse(host,
                  "ports have flags of their own, and IPv6 is written "
                  "in brackets, as [::1]");
  }
  if (name.empty()) return Refuse(host, "it is empty");
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failure = getaddrinfo(name.c_str(), "0", &hints, &found);
  if (failure != 0) return Refuse(host, gai_strerror(failure));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found,
                                                                 freeaddrinfo);
  int error = 0;
  for (const addrinfo* it = found; it != nullptr; it = it->ai_next) {
    error = TryToBind(*it);
    if (error == 0) return absl::OkStatus();
  }
  return Refuse(host, strerror(error));
}

}  // namespace quire
