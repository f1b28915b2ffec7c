// SPDX-License-Identifier: Apache-2.0
//
// Runs a fuzz target without libFuzzer: every seed input, then mutations of
// them that are the same in every run. It takes those of libFuzzer's flags that
// the fuzz rule (tools/bazel/fuzz.bzl) passes, and passes over the others:
//
//   -seed_inputs=A,B   files to begin with
//   -runs=N            inputs to make of them
//   -max_len=N         bytes of an input
//   -seed=N            of the mutations
//   -timeout=N         seconds that one input may take
//   FILE ...           run just these
//
// When an input ends the process, its bytes are written out first.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Input = std::vector<uint8_t>;

struct Flags {
  std::vector<std::string> seed_inputs;
  std::vector<std::string> files;
  int64_t runs = 0;
  size_t max_len = 4096;
  uint64_t seed = 1;
  unsigned timeout = 25;  // seconds
};

// The input that is running, for the signal handler.
const uint8_t* current_data = nullptr;
size_t current_size = 0;

void Say(const char* text) {
  const ssize_t ignored = write(STDERR_FILENO, text, std::strlen(text));
  (void)ignored;
}

// Nothing here allocates: the heap may be what broke.
void WriteInputAndDie(int number) {
  Say(number == SIGALRM ? "\nfuzz: an input takes too long; its bytes:\n"
                        : "\nfuzz: an input ended the process; its bytes:\n");
  constexpr char kDigits[] = "0123456789abcdef";
  for (size_t i = 0; i < current_size; ++i) {
    const char pair[] = {kDigits[current_data[i] >> 4],
                         kDigits[current_data[i] & 15], '\0'};
    Say(pair);
  }
  Say("\n");
  ::signal(number, SIG_DFL);
  if (number == SIGALRM) std::abort();
  raise(number);
}

void Run(const Input& input, unsigned timeout) {
  // Exactly as large as its bytes, so that AddressSanitizer sees an overrun.
  const Input exact(input.begin(), input.end());
  current_data = exact.data();
  current_size = exact.size();
  alarm(timeout);
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  alarm(0);
}

Input Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "fuzz: %s: cannot be read\n", path.c_str());
    std::exit(1);
  }
  return Input(std::istreambuf_iterator<char>(file), {});
}

// Changes inputs as a fuzzer does, but blindly.
class Mutator {
 public:
  Mutator(const std::vector<Input>& seeds, uint64_t seed, size_t max_len)
      : seeds_(seeds), random_(seed), max_len_(max_len) {}

  Input Next() {
    Input input = seeds_[Below(seeds_.size())];
    const size_t changes = 1 + Below(5);
    for (size_t i = 0; i < changes; ++i) Change(&input);
    if (input.size() > max_len_) input.resize(max_len_);
    return input;
  }

 private:
  size_t Below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  void Change(Input* input) {
    switch (Below(8)) {
      case 0:
        if (!input->empty()) (*input)[Below(input->size())] ^= 1 << Below(8);
        return;
      case 1:
        if (!input->empty()) {
          (*input)[Below(input->size())] = static_cast<uint8_t>(random_());
        }
        return;
      case 2:
        return Insert(Input(1 + Below(8), static_cast<uint8_t>(random_())),
                      input);
      case 3:
        return Insert(Token(), input);
      case 4:
        return Erase(input);
      case 5:
        return Insert(Part(*input), input);
      case 6:
        return Insert(Part(seeds_[Below(seeds_.size())]), input);
      default:
        input->resize(Below(input->size() + 1));
    }
  }

  void Insert(const Input& part, Input* input) {
    input->insert(
        input->begin() + static_cast<std::ptrdiff_t>(Below(input->size() + 1)),
        part.begin(), part.end());
  }

  void Erase(Input* input) {
    const size_t begin = Below(input->size() + 1);
    const size_t count = Below(std::min<size_t>(input->size() - begin, 64) + 1);
    const auto first = input->begin() + static_cast<std::ptrdiff_t>(begin);
    input->erase(first, first + static_cast<std::ptrdiff_t>(count));
  }

  Input Part(const Input& from) {
    const size_t begin = Below(from.size() + 1);
    const size_t count = Below(std::min<size_t>(from.size() - begin, 64) + 1);
    const auto first = from.begin() + static_cast<std::ptrdiff_t>(begin);
    return Input(first, first + static_cast<std::ptrdiff_t>(count));
  }

  // What parsers trip over.
  Input Token() {
    static constexpr const char* kTokens[] = {
        "{",       "}",       "[",          "]",
        "\"",      ":",       ",",          "null",
        "true",    "false",   "0",          "-1",
        "1e999",   "-0.0",    "2147483648", "9223372036854775808",
        "\\u0000", "\\ud800", "\xff\xfe",   "\xf0\x9f\x98\x80",
        "{{",      "}}",      "{%",         "%}"};
    const char* token = kTokens[Below(std::size(kTokens))];
    return Input(token, token + std::strlen(token));
  }

  const std::vector<Input>& seeds_;
  std::mt19937_64 random_;
  size_t max_len_;
};

std::vector<std::string> SplitByComma(const std::string& list) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin < list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) parts.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Flags ParseFlags(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const size_t equals = arg.find('=');
    if (arg.empty() || arg[0] != '-') {
      flags.files.push_back(arg);
      continue;
    }
    const std::string name = arg.substr(0, equals);
    const std::string value =
        equals == std::string::npos ? "" : arg.substr(equals + 1);
    if (name == "-seed_inputs") {
      flags.seed_inputs = SplitByComma(value);
    } else if (name == "-runs") {
      flags.runs = std::atoll(value.c_str());
    } else if (name == "-max_len") {
      flags.max_len = static_cast<size_t>(std::atoll(value.c_str()));
    } else if (name == "-seed") {
      flags.seed = static_cast<uint64_t>(std::atoll(value.c_str()));
    } else if (name == "-timeout") {
      flags.timeout = static_cast<unsigned>(std::atoi(value.c_str()));
    }
  }
  return flags;
}

}  // namespace

int main(int argc, char** argv) {
  const Flags flags = ParseFlags(argc, argv);
  for (int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM}) {
    ::signal(number, WriteInputAndDie);
  }
  for (const std::string& path : flags.files) Run(Read(path), flags.timeout);
  if (!flags.files.empty()) return 0;
  std::vector<Input> seeds = {{}};
  for (const std::string& path : flags.seed_inputs) {
    seeds.push_back(Read(path));
  }
  for (const Input& seed : seeds) Run(seed, flags.timeout);
  Mutator mutator(seeds, flags.seed, flags.max_len);
  for (int64_t i = 0; i < flags.runs; ++i) Run(mutator.Next(), flags.timeout);
  std::printf("%zu seeds and %lld mutations of them passed\n", seeds.size(),
              static_cast<long long>(flags.runs));
}
