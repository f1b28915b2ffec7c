// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/own_product.h"

#include <functional>

#include "gtest/gtest.h"

namespace quire {
namespace {

// A product of rows and addresses as our own want them, changed.
bool IsOwn(const std::function<void(PlainGemmParams*)>& change) {
  alignas(16) static char memory[32];
  PlainGemmParams params = {};
  params.x = params.w = params.bias = memory;
  params.y = memory;
  params.m = 5;
  params.n = params.y_stride = 64;
  params.k = params.x_stride = 96;
  params.dtype = params.y_dtype = DType::kBf16;
  change(&params);
  return IsOwnProduct(params);
}

TEST(OwnProductTest, RowsOfSixteenBytesAreOurs) {
  EXPECT_TRUE(IsOwn([](auto*) {}));
  EXPECT_TRUE(IsOwn([](auto* p) { p->bias = nullptr; }));
  EXPECT_TRUE(IsOwn([](auto* p) { p->y_dtype = DType::kF32; }));
  EXPECT_TRUE(IsOwn([](auto* p) { p->is_gated = true; }));
  EXPECT_TRUE(IsOwn([](auto* p) { p->n = p->y_stride = 72; }));
  EXPECT_TRUE(IsOwn([](auto* p) { p->adds = true; }));
}

TEST(OwnProductTest, OthersAreNot) {
  EXPECT_FALSE(IsOwn([](auto* p) { p->dtype = DType::kF32; }));
  EXPECT_FALSE(IsOwn([](auto* p) { p->k = 92; }));
  EXPECT_FALSE(IsOwn([](auto* p) { p->x_stride = 97; }));
  EXPECT_FALSE(IsOwn([](auto* p) { p->n = 60; }));
  EXPECT_FALSE(IsOwn([](auto* p) { p->y_stride = 65; }));
  for (const void* PlainGemmParams::*matrix :
       {&PlainGemmParams::x, &PlainGemmParams::w, &PlainGemmParams::bias}) {
    EXPECT_FALSE(IsOwn([&](auto* p) {
      p->*matrix = static_cast<const char*>(p->*matrix) + 2;
    }));
  }
  EXPECT_FALSE(IsOwn([](auto* p) { p->y = static_cast<char*>(p->y) + 2; }));
  // Gates and ups that do not take turns to the end.
  EXPECT_FALSE(IsOwn([](auto* p) {
    p->is_gated = true;
    p->n = 72;
  }));
  EXPECT_FALSE(IsOwn([](auto* p) { p->adds = p->is_gated = true; }));
  EXPECT_FALSE(IsOwn([](auto* p) {
    p->adds = true;
    p->y_dtype = DType::kF32;
  }));
}

}  // namespace
}  // namespace quire
