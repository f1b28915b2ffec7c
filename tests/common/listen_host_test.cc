// SPDX-License-Identifier: Apache-2.0
#include "common/listen_host.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string WhyNot(const std::string& host) {
  const absl::Status status = CheckListenHost(host);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << host;
  return std::string(status.message());
}

TEST(ListenHostTest, AddressesOfThisMachineWillDo) {
  for (const char* host : {"127.0.0.1", "127.0.0.9", "0.0.0.0", "localhost"}) {
    EXPECT_TRUE(CheckListenHost(host).ok()) << CheckListenHost(host);
  }
}

TEST(ListenHostTest, AnotherMachinesAddressIsNamed) {
  // Of a net that is for documents alone.
  EXPECT_THAT(WhyNot("192.0.2.1"),
              AllOf(StartsWith("--host=192.0.2.1: Cannot assign"),
                    HasSubstr("such as 127.0.0.1")));
}

TEST(ListenHostTest, ANameThatNobodyHasIsNamed) {
  // No name server can know it: a part is empty.
  EXPECT_THAT(WhyNot("no..host"), AllOf(StartsWith("--host=no..host: "),
                                        HasSubstr("a name of this machine")));
}

TEST(ListenHostTest, WhatIsNoHostIsToldFromOne) {
  EXPECT_THAT(WhyNot(""), HasSubstr("it is empty"));
  EXPECT_THAT(WhyNot("127.0.0.1:80"), HasSubstr("ports have flags"));
  EXPECT_THAT(WhyNot("::1"), HasSubstr("[::1]"));
}

}  // namespace
}  // namespace quire
