// SPDX-License-Identifier: Apache-2.0
//
// Writes what an engine hears and plans to a file (proto/recording.proto), from
// which tools/replay decides the same again.
//
// The engine thread encodes a record and leaves its bytes for a thread that
// writes. It never waits for the disk: when more than
// max_buffered_bytes wait to be written, recording ends there and the file says
// so. It ends likewise when requests move between engines.
#ifndef COORDINATOR_RECORDING_RECORDER_H_
#define COORDINATOR_RECORDING_RECORDER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/engine/engine_observer.h"
#include "coordinator/engine/engine_options.h"

namespace quire {

namespace v1 {
class Record;
}  // namespace v1

// The methods of EngineObserver are for one thread, Close() for any.
class Recorder final : public EngineObserver {
 public:
  static constexpr int64_t kMaxBufferedBytes = int64_t{64} << 20;

  // Makes or empties the file. Unavailable if it cannot be written.
  static absl::StatusOr<std::unique_ptr<Recorder>> Open(
      const std::string& path, const EngineOptions& options,
      int64_t max_buffered_bytes = kMaxBufferedBytes);

  // Closes. What went wrong was logged when it did.
  ~Recorder() override;

  // Writes what is left and ends the thread. Unavailable if anything could not
  // be written, ResourceExhausted if the end is missing. May be called again.
  absl::Status Close() ABSL_LOCKS_EXCLUDED(mutex_);

  void OnRequest(RequestKey key, const EngineRequest& request,
                 absl::Time now) override;
  void OnFinish(RequestKey key, FinishReason reason, absl::Time now) override;
  void OnFinishSequence(RequestKey key, int32_t index, absl::Time now) override;
  void OnMask(RequestKey key, int32_t index, int64_t num_outputs,
              absl::Time now) override;
  void OnEndAll(const absl::Status& status, absl::Time now) override;
  void OnGroupReady(const GroupReady& group, absl::Time now) override;
  void OnStepResult(const StepResult& result, absl::Time now) override;
  void OnGroupLost(Epoch group_epoch, const absl::Status& cause,
                   absl::Time now) override;
  // Ends the recording.
  void OnMove(absl::Time now) override;
  void OnPlan(const StepPlan* plan, absl::Time now) override;

 private:
  Recorder(int fd, int64_t max_buffered_bytes);

  // Lets the record that follows be the last. The file says so.
  void EndEarly(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Encodes record_ and hands it over.
  void Append(absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);
  void Write() ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int fd_;
  const int64_t max_buffered_bytes_;
  const std::unique_ptr<v1::Record> record_;  // reused by every event

  absl::Mutex mutex_;
  std::string buffer_ ABSL_GUARDED_BY(mutex_);  // whole records
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::string truncated_by_ ABSL_GUARDED_BY(mutex_);  // "": by nothing
  absl::Status status_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace quire

#endif  // COORDINATOR_RECORDING_RECORDER_H_
