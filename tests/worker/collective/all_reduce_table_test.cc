// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/all_reduce_table.h"

#include <limits>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();
constexpr AllReduceWay kOne = AllReduceWay::kOneShot;
constexpr AllReduceWay kTwo = AllReduceWay::kTwoShot;
constexpr AllReduceWay kLibrary = AllReduceWay::kLibrary;

TEST(AllReduceTableTest, WithoutTimesAllIsOneShot) {
  EXPECT_EQ(AllReduceTable().WayFor(1), kOne);
  EXPECT_EQ(AllReduceTable().WayFor(1 << 30), kOne);
}

TEST(AllReduceTableTest, EachSizeGoesTheFastestWay) {
  const AllReduceTable table(std::vector<AllReduceTimes>{
      {1000, {1, 2, 3}}, {2000, {3, 2, 4}}, {4000, {8, 5, 4}}});
  EXPECT_EQ(table.WayFor(1), kOne);
  EXPECT_EQ(table.WayFor(1999), kOne);
  EXPECT_EQ(table.WayFor(2000), kTwo);
  EXPECT_EQ(table.WayFor(3999), kTwo);
  EXPECT_EQ(table.WayFor(4000), kLibrary);
  EXPECT_EQ(table.WayFor(int64_t{1} << 40), kLibrary);
}

TEST(AllReduceTableTest, AWayThatThereIsNotIsNotTaken) {
  const AllReduceTable table(std::vector<AllReduceTimes>{
      {1000, {2, 1, kNone}}, {2000, {2, kNone, kNone}}});
  EXPECT_EQ(table.WayFor(1000), kTwo);
  EXPECT_EQ(table.WayFor(2000), kOne);
}

TEST(AllReduceTableTest, TimesAreToldInMicrosecondsAndAMissingWayIsToldSo) {
  EXPECT_EQ(ToString({64 << 10, {3.46e-6, 0.00125, kNone}}),
            "64 KB 3.5/1250.0/-");
}

TEST(AllReduceTableTest, NoiseLeavesNoHoles) {
  const AllReduceTable table(std::vector<AllReduceTimes>{
      {1000, {1.00, 2.0, 3}}, {2000, {1.02, 1.0, 3}}, {4000, {1.5, 1.9, 3}}});
  for (int64_t bytes : {1000, 2000, 4000}) EXPECT_EQ(table.WayFor(bytes), kOne);
}

TEST(PiecesOfTest, CoverTheMessageOnceAndInOrder) {
  for (int64_t most : {8, 15, 64, 1000}) {
    for (int64_t n : {1, 7, 8, 9, 63, 64, 65, 1000, 1001, 12345}) {
      int64_t next = 0;
      const auto pieces = PiecesOf(n, most, /*lanes=*/8);
      for (const MessagePiece& piece : pieces) {
        EXPECT_EQ(piece.first, next);
        EXPECT_EQ(piece.first % 8, 0);
        EXPECT_GE(piece.size, 1);
        EXPECT_LE(piece.size, most);
        next += piece.size;
      }
      EXPECT_EQ(next, n);
      const int64_t whole = most / 8 * 8;
      EXPECT_EQ(pieces.size(), (n + whole - 1) / whole);
    }
  }
}

TEST(PiecesOfTest, AreEqualButForTheLast) {
  // 65 of at most 64: not 64 and 1.
  const auto pieces = PiecesOf(65, 64, 8);
  ASSERT_EQ(pieces.size(), 2);
  EXPECT_EQ(pieces[0].size, 40);
  EXPECT_EQ(pieces[1].size, 25);
  EXPECT_TRUE(PiecesOf(0, 64, 8).empty());
}

}  // namespace
}  // namespace quire
