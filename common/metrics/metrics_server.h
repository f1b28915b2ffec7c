// SPDX-License-Identifier: Apache-2.0
//
// Serves GET /metrics as Prometheus text on a port of its own.
#ifndef COMMON_METRICS_METRICS_SERVER_H_
#define COMMON_METRICS_METRICS_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace prometheus {
class Collectable;
class Exposer;
}  // namespace prometheus

namespace quire {

// Thread-compatible.
class MetricsServer {
 public:
  // Listens on `host`:`port`; port 0 takes a free one. Unavailable when the
  // port is taken.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& host, int port);
  ~MetricsServer();

  // Scrapes `collectable` from now on, for as long as somebody else owns it
  // too: the server holds no share of its own.
  void Add(const std::shared_ptr<prometheus::Collectable>& collectable);

  int port() const { return port_; }

 private:
  MetricsServer(std::unique_ptr<prometheus::Exposer> exposer,
                const std::string& host, int port);

  std::unique_ptr<prometheus::Exposer> exposer_;
  const std::string host_;
  const int port_;
};

}  // namespace quire

#endif  // COMMON_METRICS_METRICS_SERVER_H_
