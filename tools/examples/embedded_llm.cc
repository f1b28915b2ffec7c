// SPDX-License-Identifier: Apache-2.0
//
// A model inside a program of one's own:
//
//   bazel run --config=opt //tools/examples:embedded_llm -- DIR "A prompt" ...
#include <iostream>
#include <string>
#include <vector>

#include "tools/embedded/llm.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: embedded_llm MODEL_FOLDER PROMPT ...\n";
    return 2;
  }
  quire::LLMOptions options;
  options.model = argv[1];
  options.memory_utilization = 0.5;
  quire::LLM llm(options);
  if (!llm.status().ok()) {
    std::cerr << "embedded_llm: " << llm.status().message() << "\n";
    return 1;
  }
  quire::v1::SamplingParams sampling;
  sampling.set_max_tokens(40);
  sampling.set_temperature(0.8f);
  sampling.set_seed(7);
  const std::vector<std::string> prompts(argv + 2, argv + argc);
  const std::vector<quire::LLMResult> results = llm.Generate(prompts, sampling);
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].status.ok()) {
      std::cerr << "embedded_llm: " << results[i].status.message() << "\n";
      continue;
    }
    std::cout << prompts[i] << results[i].answers[0].text << "\n";
  }
  return 0;
}
