// SPDX-License-Identifier: Apache-2.0
#include "tests/common/text/text_testing.h"

#include <glog/logging.h>

#include <fstream>
#include <iterator>
#include <utility>

namespace quire {

std::string ReadTestData(const std::string& name) {
  std::ifstream file("tests/common/text/testdata/" + name, std::ios::binary);
  CHECK(file) << "no test data " << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string ReadTemplateData(const std::string& name) {
  std::ifstream file("tests/common/text/templates/" + name, std::ios::binary);
  CHECK(file) << "no template data " << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::unique_ptr<Tokenizer> LoadTestTokenizer(const std::string& kind) {
  auto tokenizer =
      Tokenizer::Load("tests/common/text/testdata/" + kind + ".json");
  CHECK(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

nlohmann::json ReadGolden(const std::string& kind) {
  return nlohmann::json::parse(ReadTestData(kind + ".golden.json"));
}

}  // namespace quire
