// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/stream_call.h"

#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "coordinator/gateway/call_count.h"
#include "coordinator/gateway/raw_message.h"
#include "gtest/gtest.h"
#include "proto/inference.grpc.pb.h"

namespace quire {
namespace {

// A call that only begins.
class BegunCall final
    : public StreamCall<v1::GenerateRequest, v1::GenerateResponse> {
 public:
  explicit BegunCall(StreamCallSeat seat) : StreamCall(std::move(seat)) {}

  size_t text_bytes() const { return text_bytes_; }
  bool is_read() const { return is_read_; }

 private:
  void OnArrival(uint64_t,
                 const absl::StatusOr<v1::GenerateRequest>& request) override {
    if (request.ok()) text_bytes_ = request->text().size();
    is_read_ = request.ok();
  }
  void OnWriteDone(bool) override {}
  void OnCancel() override {}
  void OnDone() override {}

  size_t text_bytes_ = 0;
  bool is_read_ = false;
};

TEST(StreamCallTest, KeepsNothingOfARequestThatHasBegun) {
  CallCount count;
  BegunCall call({count.Take(), /*lane=*/0, [] { return uint64_t{1}; }});
  v1::GenerateRequest request;
  request.set_text(std::string(1 << 20, 'x'));
  *call.request() = EncodeResponse(request);
  call.arrival()->Happen(/*ok=*/true);
  EXPECT_TRUE(call.is_read());
  EXPECT_EQ(call.text_bytes(), size_t{1} << 20);
  EXPECT_FALSE(call.request()->Valid());
}

TEST(StreamCallTest, BeginsWithoutARequestThatCannotBeRead) {
  CallCount count;
  BegunCall call({count.Take(), /*lane=*/0, [] { return uint64_t{1}; }});
  const grpc::Slice slice("no message");
  *call.request() = grpc::ByteBuffer(&slice, 1);
  call.arrival()->Happen(/*ok=*/true);
  EXPECT_FALSE(call.is_read());
  EXPECT_FALSE(call.request()->Valid());
}

TEST(StreamCallTest, GoesWhenTheServerHasNoCallForIt) {
  CallCount count;
  auto* call = new BegunCall({count.Take(), /*lane=*/0, [] {
                                ADD_FAILURE() << "asks for another";
                                return uint64_t{1};
                              }});
  call->arrival()->Happen(/*ok=*/false);
  count.AwaitNone();
}

}  // namespace
}  // namespace quire
