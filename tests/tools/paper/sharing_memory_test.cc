// SPDX-License-Identifier: Apache-2.0
//
// Deterministic: the shares follow from lengths and seeds.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

// Of one run for all tests.
std::vector<PaperRow> Rows(const std::string& workload) {
  static const auto& output =
      *new absl::StatusOr<FigureOutput>(RunSharingMemory({.quick = true}));
  EXPECT_TRUE(output.ok()) << output.status();
  std::vector<PaperRow> rows;
  if (!output.ok()) return rows;
  for (const PaperRow& row : output->rows) {
    if (row.what.starts_with(workload)) rows.push_back(row);
  }
  return rows;
}

TEST(SharingMemoryTest, AlpacaSavesWhatThePaperPrintsToTwoPoints) {
  const std::vector<PaperRow> rows = Rows("Alpaca");
  ASSERT_EQ(rows.size(), 6);
  for (const PaperRow& row : rows) {
    ASSERT_TRUE(row.paper.has_value());
    EXPECT_NEAR(row.ours, *row.paper, 2) << row.what;
  }
}

// Nothing about parallel samples is fitted, to either workload.
TEST(SharingMemoryTest, SoDoShareGptsParallelSamples) {
  const std::vector<PaperRow> rows = Rows("ShareGPT");
  ASSERT_EQ(rows.size(), 4);
  for (int idx = 0; idx < 2; ++idx) {
    EXPECT_NEAR(rows[idx].ours, *rows[idx].paper, 2) << rows[idx].what;
  }
  // Beams share more of long outputs than of short ones.
  EXPECT_GT(rows[3].ours, Rows("Alpaca")[5].ours);
}

}  // namespace
}  // namespace quire
