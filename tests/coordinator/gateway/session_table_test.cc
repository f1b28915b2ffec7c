// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/session_table.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/wire/error_details.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

// Leaves the table when it is aborted, as a call does once its status is out.
class FakeSession final : public Session {
 public:
  FakeSession(SessionTable* table, std::string request_id)
      : table_(table), request_id_(std::move(request_id)) {}
  void Abort(const absl::Status& status) override {
    status_ = status;
    table_->Remove(request_id_);
  }
  absl::Status status() const { return status_; }

 private:
  SessionTable* const table_;
  const std::string request_id_;
  absl::Status status_;
};

TEST(SessionTableTest, NamesAreUniqueAmongThoseHeld) {
  SessionTable table;
  auto session = std::make_shared<FakeSession>(&table, "a");
  EXPECT_TRUE(table.Add("a", session).ok());
  EXPECT_EQ(table.Add("a", session).code(), absl::StatusCode::kAlreadyExists);
  table.Remove("a");
  EXPECT_TRUE(table.Add("a", session).ok());
  EXPECT_EQ(table.size(), 1);
}

TEST(SessionTableTest, CancelAbortsTheOneNamed) {
  SessionTable table;
  auto a = std::make_shared<FakeSession>(&table, "a");
  auto b = std::make_shared<FakeSession>(&table, "b");
  ASSERT_TRUE(table.Add("a", a).ok() && table.Add("b", b).ok());
  EXPECT_TRUE(table.Cancel("a").ok());
  EXPECT_EQ(a->status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(b->status().ok());
  EXPECT_EQ(table.Cancel("a").code(), absl::StatusCode::kNotFound);
}

TEST(SessionTableTest, DrainWaitsForThoseThatEnd) {
  SimulatedClock clock;
  SessionTable table;
  auto session = std::make_shared<FakeSession>(&table, "a");
  ASSERT_TRUE(table.Add("a", session).ok());
  SessionTable::DrainCounts counts;
  std::thread drain(
      [&] { counts = table.Drain(absl::InfiniteFuture(), &clock); });
  while (!table.is_draining()) std::this_thread::yield();
  const absl::Status refused = table.Add("b", session);
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetErrorDetails(refused).reason, "DRAINING");
  table.Remove("a");  // it ended by itself
  drain.join();
  EXPECT_EQ(counts.num_finished, 1u);
  EXPECT_EQ(counts.num_aborted, 0u);
  EXPECT_TRUE(session->status().ok());
}

TEST(SessionTableTest, DrainAbortsTheRestAtItsDeadline) {
  SimulatedClock clock;
  SessionTable table;
  auto session = std::make_shared<FakeSession>(&table, "a");
  ASSERT_TRUE(table.Add("a", session).ok());
  SessionTable::DrainCounts counts;
  std::thread drain(
      [&] { counts = table.Drain(clock.Now() + absl::Seconds(90), &clock); });
  while (!table.is_draining()) std::this_thread::yield();
  clock.Advance(absl::Seconds(90));
  drain.join();
  EXPECT_EQ(counts.num_finished, 0u);
  EXPECT_EQ(counts.num_aborted, 1u);
  EXPECT_EQ(session->status().code(), absl::StatusCode::kUnavailable);
}

TEST(SessionTableTest, HurriedDrainDoesNotWait) {
  SimulatedClock clock;  // stands still: only the hurry can end the wait
  SessionTable table;
  auto session = std::make_shared<FakeSession>(&table, "a");
  ASSERT_TRUE(table.Add("a", session).ok());
  table.HurryDrain();
  EXPECT_EQ(table.Drain(absl::InfiniteFuture(), &clock).num_aborted, 1u);
}

}  // namespace
}  // namespace quire
