// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/stream_call.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "coordinator/gateway/call_count.h"
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

 private:
  void OnArrival(uint64_t, const v1::GenerateRequest& request) override {
    text_bytes_ = request.text().size();
  }
  void OnWriteDone(bool) override {}
  void OnCancel() override {}
  void OnDone() override {}

  size_t text_bytes_ = 0;
};

TEST(StreamCallTest, KeepsNothingOfARequestThatHasBegun) {
  CallCount count;
  BegunCall call({count.Take(), /*lane=*/0, [] { return uint64_t{1}; }});
  call.request()->set_text(std::string(1 << 20, 'x'));
  call.arrival()->Happen(/*ok=*/true);
  EXPECT_EQ(call.text_bytes(), size_t{1} << 20);
  EXPECT_LT(call.request()->SpaceUsedLong(), size_t{1} << 10);
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
