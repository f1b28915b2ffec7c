// SPDX-License-Identifier: Apache-2.0
//
// A worker process in this process: quire.v1.Worker on a free port, over a
// simulated group, with the misbehaviours that a coordinator must survive.
#ifndef TESTS_COORDINATOR_DISPATCH_FAKE_WORKER_H_
#define TESTS_COORDINATOR_DISPATCH_FAKE_WORKER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"

namespace quire {

struct FakeWorkerOptions {
  int32_t num_blocks = 64;
  int32_t block_size = 16;
  int32_t group_tokens = 5;   // of a page group, if the cache is virtual
  absl::Status load_status;   // what Load ends with
  uint64_t kv_bytes = 64000;  // of blocks of 1000 bytes
  uint64_t swap_bytes_per_second = 0;
  bool hang_in_load = false;  // until the worker is destroyed
};

// Thread-safe. Stops in its destructor.
class FakeWorker {
 public:
  explicit FakeWorker(const FakeWorkerOptions& options = {});
  ~FakeWorker();

  std::string address() const;

  // The next result's token digest (table digest) is wrong.
  void CorruptTokenDigest();
  void CorruptTableDigest();
  // Results come with a lower group epoch.
  void AnswerForOldEpoch();
  // Plans are taken, but no result comes any more, or not after so many.
  void StopAnswering() { StopAnsweringAfter(0); }
  void StopAnsweringAfter(int64_t num_answers);
  // Keeps the next result, and all after it, until the release.
  void HoldAnswers();
  void ReleaseAnswers();
  // Ends the Run stream.
  void EndRun(const absl::Status& status);

  // Steps that it has answered.
  int64_t num_answers() const;
  // Waits until this many plans have come.
  void AwaitPlans(int64_t num_plans) const;
  // Blocks of AllocateKv; 0 before.
  int32_t num_allocated_blocks() const;
  int32_t num_allocated_host_blocks() const;
  // Of Load; 0 before.
  int32_t num_sparse_pages() const;
  // Of Profile; 0 before.
  double memory_utilization() const;
  // Waits until Load has been called.
  void AwaitLoad() const;

 private:
  class Service;
  struct Server;
  std::unique_ptr<Service> service_;
  std::unique_ptr<Server> server_;
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_DISPATCH_FAKE_WORKER_H_
