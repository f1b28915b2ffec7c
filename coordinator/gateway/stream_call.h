// SPDX-License-Identifier: Apache-2.0
//
// A call that streams its answer, as a completion queue tells of it.
#ifndef COORDINATOR_GATEWAY_STREAM_CALL_H_
#define COORDINATOR_GATEWAY_STREAM_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/gateway/call_count.h"
#include "coordinator/gateway/call_queue.h"
#include "coordinator/gateway/raw_message.h"

namespace quire {

// What a call is told before it comes.
struct StreamCallSeat {
  // Goes with the call.
  CallCount::Share share;
  // Of the queues (call_queues.h) that gRPC is asked with.
  size_t lane = 0;
  // Called when the call has come: asks for the next one, and numbers this.
  std::function<uint64_t()> on_arrival;
};

// Owns itself from the moment when gRPC is asked for such a call until gRPC is
// done with it, or has none any more. OnArrival is called first, on the queue
// of arrivals; the others on the queue of calls, one at a time, OnDone last,
// wherever that is.
template <typename Request, typename Response>
class StreamCall {
 public:
  // What gRPC is asked with.
  grpc::ServerContext* rpc() { return &rpc_; }
  grpc::ByteBuffer* request() { return &request_; }
  grpc::ServerAsyncWriter<grpc::ByteBuffer>* writer() { return &writer_; }
  CallEvent* arrival() { return &arrival_; }

 protected:
  explicit StreamCall(StreamCallSeat seat) : seat_(std::move(seat)) {
    rpc_.AsyncNotifyWhenDone(&over_);
  }
  virtual ~StreamCall() = default;
  StreamCall(const StreamCall&) = delete;
  StreamCall& operator=(const StreamCall&) = delete;

  const StreamCallSeat& seat() const { return seat_; }

  // The call begins, with its request or why it has none to be read; `request`
  // is not used after the return.
  virtual void OnArrival(uint64_t number,
                         const absl::StatusOr<Request>& request) = 0;
  virtual void OnWriteDone(bool ok) = 0;
  // The client is gone, or its deadline has passed. Not after the end.
  virtual void OnCancel() = 0;
  // Last call.
  virtual void OnDone() = 0;

  // OnWriteDone follows. REQUIRES: no write is under way, likewise below.
  void StartWrite(const Response& response) {
    writer_.Write(EncodeResponse(response), &written_);
  }
  void StartWriteAndFinish(const Response& response) {
    writer_.WriteAndFinish(EncodeResponse(response), grpc::WriteOptions(),
                           grpc::Status::OK, &ended_);
  }
  void StartFinish(const grpc::Status& status) {
    writer_.Finish(status, &ended_);
  }

 private:
  template <void (StreamCall::*kHandler)(bool)>
  class Event final : public CallEvent {
   public:
    explicit Event(StreamCall* call) : call_(call) {}
    void Happen(bool ok) override { (call_->*kHandler)(ok); }

   private:
    StreamCall* const call_;
  };

  void Arrive(bool ok) {
    if (!ok) {  // the server ends
      delete this;
      return;
    }
    OnArrival(seat_.on_arrival(), Read());
    if (is_begun_or_over_.exchange(true)) TellCancel();
    Release();
  }
  // Leaves no bytes, as the call may last.
  absl::StatusOr<Request> Read() {
    Request request;
    absl::Status status = ReadRequest(&request_, &request);
    if (!status.ok()) return status;
    return request;
  }
  void NoteWritten(bool ok) { OnWriteDone(ok); }
  void NoteEnded(bool) { Release(); }
  void NoteOver(bool) {
    if (is_begun_or_over_.exchange(true)) TellCancel();
    Release();
  }
  void TellCancel() {
    if (rpc_.IsCancelled()) OnCancel();
  }
  void Release() {
    if (num_to_come_.fetch_sub(1) > 1) return;
    OnDone();
    delete this;
  }

  const StreamCallSeat seat_;
  grpc::ServerContext rpc_;
  grpc::ByteBuffer request_;
  grpc::ServerAsyncWriter<grpc::ByteBuffer> writer_{&rpc_};
  Event<&StreamCall::Arrive> arrival_{this};
  Event<&StreamCall::NoteWritten> written_{this};
  Event<&StreamCall::NoteEnded> ended_{this};
  Event<&StreamCall::NoteOver> over_{this};
  // Whoever comes second of OnArrival's return and the end tells of a cancel.
  std::atomic<bool> is_begun_or_over_ = false;
  // OnArrival's return, the end that this side writes, and the end of all.
  std::atomic<int> num_to_come_ = 3;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_STREAM_CALL_H_
