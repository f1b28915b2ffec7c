// SPDX-License-Identifier: Apache-2.0
//
// A program that behaves to its launcher like a worker: it repeats its flags,
// and who it is, on standard error and waits for SIGTERM. With --fake=fail,
// rank 1 complains and exits with 1.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>

int main(int argc, char** argv) {
  std::string flags;
  for (int idx = 1; idx < argc; ++idx) flags += std::string(" ") + argv[idx];
  std::fprintf(stderr, "flags:%s pid=%d\n", flags.c_str(), getpid());
  if (flags.find("--fake=fail") != std::string::npos &&
      flags.find("--rank=1") != std::string::npos) {
    std::fprintf(
        stderr, "tensor model.norm.weight of model.safetensors is truncated\n");
    return 1;
  }
  signal(SIGTERM, [](int) { _exit(0); });
  while (true) pause();
}
