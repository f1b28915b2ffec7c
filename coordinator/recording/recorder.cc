// SPDX-License-Identifier: Apache-2.0
#include "coordinator/recording/recorder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/wire/step_plan_wire.h"
#include "coordinator/recording/plan_digest.h"
#include "coordinator/recording/recording_wire.h"
#include "glog/logging.h"
#include "google/protobuf/io/coded_stream.h"
#include "proto/recording.pb.h"

namespace quire {
namespace {

constexpr char kMagic[] = "quire-recording";
constexpr uint32_t kFormat = 2;

using google::protobuf::io::CodedOutputStream;

void AppendDelimited(const google::protobuf::MessageLite& message,
                     std::string* buffer) {
  const size_t size = message.ByteSizeLong();
  uint8_t prefix[10];
  const uint8_t* end = CodedOutputStream::WriteVarint64ToArray(size, prefix);
  buffer->append(reinterpret_cast<const char*>(prefix), end - prefix);
  const size_t begin = buffer->size();
  buffer->resize(begin + size);
  message.SerializeWithCachedSizesToArray(
      reinterpret_cast<uint8_t*>(buffer->data() + begin));
}

absl::Status WriteAll(int fd, const std::string& bytes) {
  size_t num_written = 0;
  while (num_written < bytes.size()) {
    const ssize_t n =
        write(fd, bytes.data() + num_written, bytes.size() - num_written);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot write the recording: ", strerror(errno)));
    }
    num_written += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Recorder>> Recorder::Open(
    const std::string& path, const EngineOptions& options,
    int64_t max_buffered_bytes) {
  const int fd =
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot write ", path, ": ", strerror(errno)));
  }
  v1::RecordingHeader header;
  header.set_magic(kMagic);
  header.set_format(kFormat);
  EncodeOptions(options, header.mutable_options());
  std::unique_ptr<Recorder> recorder(new Recorder(fd, max_buffered_bytes));
  absl::MutexLock lock(&recorder->mutex_);
  AppendDelimited(header, &recorder->buffer_);
  return recorder;
}

Recorder::Recorder(int fd, int64_t max_buffered_bytes)
    : fd_(fd),
      max_buffered_bytes_(max_buffered_bytes),
      record_(std::make_unique<v1::Record>()),
      thread_([this] { Write(); }) {}

Recorder::~Recorder() {
  Close().IgnoreError();  // it was logged when it happened
  close(fd_);
}

absl::Status Recorder::Close() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  if (thread_.joinable()) thread_.join();
  absl::MutexLock lock(&mutex_);
  if (!status_.ok()) return status_;
  if (!truncated_by_.empty()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the recording ends early: ", truncated_by_));
  }
  return absl::OkStatus();
}

bool Recorder::HasWork() const { return !buffer_.empty() || closing_; }

void Recorder::Write() {
  std::string bytes;
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &Recorder::HasWork));
      if (buffer_.empty()) return;
      std::swap(bytes, buffer_);
    }
    const absl::Status status = WriteAll(fd_, bytes);
    bytes.clear();
    if (status.ok()) continue;
    LOG(WARNING) << "recording ends: " << status.message();
    absl::MutexLock lock(&mutex_);
    status_.Update(status);
    buffer_.clear();
    return;
  }
}

void Recorder::Append(absl::Time now) {
  record_->set_time_ns(absl::ToUnixNanos(now));
  absl::MutexLock lock(&mutex_);
  if (!truncated_by_.empty() || closing_ || !status_.ok()) return;
  if (static_cast<int64_t>(buffer_.size()) > max_buffered_bytes_) {
    EndEarly(absl::StrCat("more than ", max_buffered_bytes_,
                          " bytes waited to be written"));
  }
  AppendDelimited(*record_, &buffer_);
}

void Recorder::EndEarly(const std::string& why) {
  truncated_by_ = why;
  record_->set_truncated(true);
  LOG(WARNING) << "recording ends: " << why;
}

void Recorder::OnMove(absl::Time now) {
  absl::MutexLock lock(&mutex_);
  if (!truncated_by_.empty() || closing_ || !status_.ok()) return;
  record_->set_time_ns(absl::ToUnixNanos(now));
  EndEarly("a worker group was lost, and requests moved between groups");
  AppendDelimited(*record_, &buffer_);
}

void Recorder::OnRequest(RequestKey key, const EngineRequest& request,
                         absl::Time now) {
  v1::RecordedRequest* message = record_->mutable_request();
  message->Clear();
  message->set_key(key.value());
  EncodeRequest(request, message);
  Append(now);
}

void Recorder::OnFinish(RequestKey key, FinishReason reason, absl::Time now) {
  v1::RecordedFinish* message = record_->mutable_finish();
  message->set_key(key.value());
  message->set_reason(static_cast<int32_t>(reason));
  message->clear_index();
  Append(now);
}

void Recorder::OnFinishSequence(RequestKey key, int32_t index, absl::Time now) {
  v1::RecordedFinish* message = record_->mutable_finish();
  message->set_key(key.value());
  message->set_reason(static_cast<int32_t>(FinishReason::kStop));
  message->set_index(index);
  Append(now);
}

void Recorder::OnMask(RequestKey key, int32_t index, int64_t num_outputs,
                      absl::Time now) {
  v1::RecordedMask* mask = record_->mutable_mask();
  mask->set_key(key.value());
  mask->set_index(index);
  mask->set_num_outputs(num_outputs);
  Append(now);
}

void Recorder::OnEndAll(const absl::Status& status, absl::Time now) {
  EncodeLoss(status, record_->mutable_all_ended());
  Append(now);
}

void Recorder::OnGroupReady(const GroupReady& group, absl::Time now) {
  EncodeGroup(group, record_->mutable_group_ready());
  Append(now);
}

void Recorder::OnStepResult(const StepResult& result, absl::Time now) {
  EncodeStepResult(result, record_->mutable_step_result());
  Append(now);
}

void Recorder::OnGroupLost(Epoch group_epoch, const absl::Status& cause,
                           absl::Time now) {
  v1::RecordedLoss* message = record_->mutable_group_lost();
  message->set_group_epoch(group_epoch.value());
  EncodeLoss(cause, message);
  Append(now);
}

void Recorder::OnPlan(const StepPlan* plan, absl::Time now) {
  v1::RecordedPlan* message = record_->mutable_plan();
  message->Clear();
  if (plan != nullptr) {
    message->set_step_id(plan->identity.step_id.value());
    message->set_digest(PlanDigest(*plan));
    for (uint32_t size : PlanPartSizes(*plan)) message->add_part_sizes(size);
  }
  Append(now);
}

}  // namespace quire
