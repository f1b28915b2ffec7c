// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/listening_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quire {
namespace {

TEST(ListeningLineTest, NamesThreeAddresses) {
  const char kLine[] =
      "QUIRE_LISTENING public=127.0.0.1:81 control=[::1]:82 metrics=host:83";
  ASSERT_TRUE(IsListeningLine(kLine));
  const auto listening = ParseListeningLine(kLine);
  ASSERT_TRUE(listening.ok()) << listening.status();
  EXPECT_EQ(listening->public_address, "127.0.0.1:81");
  EXPECT_EQ(listening->control_address, "[::1]:82");
  EXPECT_EQ(listening->metrics_address, "host:83");
}

TEST(ListeningLineTest, AWildcardIsReachedAtHome) {
  const auto listening =
      ParseListeningLine("QUIRE_LISTENING public=0.0.0.0:81 control=[::]:82");
  ASSERT_TRUE(listening.ok()) << listening.status();
  EXPECT_EQ(listening->public_address, "127.0.0.1:81");
  EXPECT_EQ(listening->control_address, "127.0.0.1:82");
  EXPECT_EQ(listening->metrics_address, "");
}

TEST(ListeningLineTest, AMissingAddressIsAnError) {
  EXPECT_EQ(ParseListeningLine("QUIRE_LISTENING public=h:1").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ListeningLineTest, KvLinesNameBothNumbers) {
  const auto size = ParseKvLine("QUIRE_KV blocks=160 block_size=16");
  ASSERT_TRUE(size.has_value());
  EXPECT_EQ(size->num_blocks, 160);
  EXPECT_EQ(size->block_size, 16);
  for (const char* line :
       {"QUIRE_KV blocks=160", "QUIRE_KV blocks=-1 block_size=16",
        "QUIRE_KV blocks=x block_size=16", "QUIRE_READY"}) {
    EXPECT_FALSE(ParseKvLine(line).has_value()) << line;
  }
}

TEST(ListeningLineTest, ADismissalNamesAWorker) {
  const auto dismissed =
      ParseDismissedLine("QUIRE_DISMISSED group=1 rank=2 pid=345");
  ASSERT_TRUE(dismissed.has_value());
  EXPECT_EQ(dismissed->group, 1u);
  EXPECT_EQ(dismissed->rank, 2u);
  EXPECT_EQ(dismissed->pid, 345);
  for (const char* line : {"QUIRE_DISMISSED group=1 rank=2", "QUIRE_READY",
                           "QUIRE_DISMISSED group=1 rank=-2 pid=345"}) {
    EXPECT_FALSE(ParseDismissedLine(line).has_value()) << line;
  }
}

TEST(ListeningLineTest, AWarningIsTheRestOfItsLine) {
  EXPECT_EQ(ParseWarningLine("QUIRE_WARNING no chats: line 3"),
            "no chats: line 3");
  EXPECT_FALSE(ParseWarningLine("QUIRE_READY").has_value());
}

TEST(ListeningLineTest, OtherLinesAreNot) {
  EXPECT_FALSE(IsListeningLine("listening"));
  EXPECT_FALSE(IsReadyLine("QUIRE_LISTENING public=h:1 control=h:2"));
  EXPECT_TRUE(IsReadyLine("QUIRE_READY"));
}

}  // namespace
}  // namespace quire
