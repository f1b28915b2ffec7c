// SPDX-License-Identifier: Apache-2.0
//
// Stands between a client and a server on this machine, and can fall silent: it
// takes what both say and passes nothing on, while their connections last.
#ifndef TESTS_WORKER_SERVICE_SILENT_PROXY_H_
#define TESTS_WORKER_SERVICE_SILENT_PROXY_H_

#include <string>
#include <thread>

namespace quire {

// Thread-safe. Of one connection.
class SilentProxy {
 public:
  // `target`: "127.0.0.1:port".
  explicit SilentProxy(const std::string& target);
  // Closes the connection.
  ~SilentProxy();

  // "127.0.0.1:port".
  std::string address() const;
  void FallSilent();

 private:
  void Run(int target_port);

  int listening_fd_ = -1;
  int port_ = 0;
  int silence_fd_ = -1;  // an eventfd: readable once silent
  int end_fd_ = -1;      // likewise at the end
  std::thread thread_;
};

}  // namespace quire

#endif  // TESTS_WORKER_SERVICE_SILENT_PROXY_H_
