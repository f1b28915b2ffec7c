// SPDX-License-Identifier: Apache-2.0
#include "common/metrics/metrics_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"

namespace quire {
namespace {

// Opens a connection to an IPv4 address and closes it.
void Knock(const std::string& host, int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) return;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  (void)connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address));
  close(fd);
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& host, int port) {
  const std::string address = absl::StrCat(host, ":", port);
  try {  // the library's only way to say that it cannot listen
    auto exposer = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", address, "num_threads", "1",
                                 "request_timeout_ms", "10000"});
    const std::vector<int> ports = exposer->GetListeningPorts();
    if (ports.empty()) {
      return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
    }
    return std::unique_ptr<MetricsServer>(
        new MetricsServer(std::move(exposer), host, ports.front()));
  } catch (const std::exception&) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
  }
}

MetricsServer::MetricsServer(std::unique_ptr<prometheus::Exposer> exposer,
                             const std::string& host, int port)
    : exposer_(std::move(exposer)), host_(host), port_(port) {}

// The listening thread looks whether it shall stop only when a connection
// comes, or each 2 s: so connections come until it has.
MetricsServer::~MetricsServer() {
  absl::Notification stopped;
  std::thread stop([&] {
    exposer_ = nullptr;
    stopped.Notify();
  });
  do {
    Knock(host_, port_);
  } while (!stopped.WaitForNotificationWithTimeout(absl::Milliseconds(20)));
  stop.join();
}

void MetricsServer::Add(
    const std::shared_ptr<prometheus::Collectable>& collectable) {
  exposer_->RegisterCollectable(collectable);
}

}  // namespace quire
