// SPDX-License-Identifier: Apache-2.0
#include "common/metrics/metrics_server.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace quire {

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
        new MetricsServer(std::move(exposer), ports.front()));
  } catch (const std::exception&) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
  }
}

MetricsServer::MetricsServer(std::unique_ptr<prometheus::Exposer> exposer,
                             int port)
    : exposer_(std::move(exposer)), port_(port) {}

MetricsServer::~MetricsServer() = default;

void MetricsServer::Add(
    const std::shared_ptr<prometheus::Collectable>& collectable) {
  exposer_->RegisterCollectable(collectable);
}

}  // namespace quire
