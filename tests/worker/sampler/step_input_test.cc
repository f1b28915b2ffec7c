// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/step_input.h"

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"

namespace quire {
namespace {

TEST(StepInputTest, ArraysOfAnyLengthArriveWhereTheyAreSaidToBe) {
  FakeBackend backend;
  StepInput input(&backend);
  const std::vector<char> letters = {'a', 'b', 'c'};
  const std::vector<double> none, numbers = {1.5, -2.5};
  const int64_t first = input.Add(letters);
  const int64_t second = input.Add(none);
  const int64_t third = input.Add(numbers);
  ASSERT_TRUE(input.Send(/*flight=*/1).ok());
  EXPECT_EQ(second, third);
  EXPECT_EQ(third % 16, 0);
  EXPECT_EQ(input.At<char>(first)[2], 'c');
  EXPECT_EQ(input.At<double>(third)[1], -2.5);
}

TEST(StepInputTest, AFlightsArraysStayUntilTheyHaveTravelled) {
  FakeBackend backend;
  StepInput input(&backend);
  ASSERT_TRUE(input.Reserve(64).ok());
  backend.set_late();
  int32_t seen[2] = {};
  for (int32_t flight = 0; flight < 2; ++flight) {
    input.Clear();
    input.Add(std::vector<int32_t>{10 + flight});
    ASSERT_TRUE(input.Send(flight).ok());
    backend.Enqueue([&, flight] { seen[flight] = input.At<int32_t>(0)[0]; });
  }
  EXPECT_EQ(seen[0], 0);
  ASSERT_TRUE(backend.Synchronize().ok());
  EXPECT_EQ(seen[0], 10);
  EXPECT_EQ(seen[1], 11);
}

TEST(StepInputTest, WhatIsReservedIsNotAllocatedAgain) {
  FakeBackend backend;
  StepInput input(&backend);
  ASSERT_TRUE(input.Reserve(48).ok());
  const int64_t allocated = backend.allocated_bytes();
  input.Add(std::vector<char>(1));
  input.Add(std::vector<char>(32));
  ASSERT_TRUE(input.Send(0).ok());
  EXPECT_EQ(backend.allocated_bytes(), allocated);
  input.Add(std::vector<char>(1000));
  ASSERT_TRUE(input.Send(0).ok());
  EXPECT_GT(backend.allocated_bytes(), allocated);
}

TEST(StepInputTest, ABufferGrowsOnceWhatUsesItHasRun) {
  FakeBackend backend;
  std::unique_ptr<DeviceBuffer> buffer;
  ASSERT_TRUE(GrowHost(&backend, 0, &buffer).ok());
  ASSERT_NE(buffer, nullptr);
  backend.set_late();
  bool has_run = false;
  backend.Enqueue([&] { has_run = true; });
  ASSERT_TRUE(GrowDevice(&backend, 0, &buffer).ok());
  EXPECT_FALSE(has_run);
  ASSERT_TRUE(GrowDevice(&backend, 100, &buffer).ok());
  EXPECT_TRUE(has_run);
  EXPECT_GE(buffer->bytes(), 100);
}

}  // namespace
}  // namespace quire
