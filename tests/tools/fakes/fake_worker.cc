// SPDX-License-Identifier: Apache-2.0
//
// A program that behaves to its launcher like a worker: it repeats its flags,
// and who it is, on standard error and waits for SIGTERM. With --fake=fail,
// rank 1 complains and exits with 1. With --fake=refuse, every rank says in one
// line why it cannot begin, with --fake=refuse_1 those of group 1; with
// --fake=usage every rank refuses its flags, with --fake=orphan every rank ends
// with its coordinator.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>

namespace {

// Returns when nobody listens at 127.0.0.1:`port` any more.
void AwaitEnd(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  char bytes[256];
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
      0) {
    while (read(fd, bytes, sizeof(bytes)) > 0) {
    }
  }
  close(fd);
}

}  // namespace

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
  const bool refuses = flags.find("--fake=refuse_1") != std::string::npos
                           ? flags.find("--group=1") != std::string::npos
                           : flags.find("--fake=refuse") != std::string::npos;
  if (refuses) {
    std::fprintf(stderr,
                 "I1122 a log's line\nquire_worker: no GPU; --device\n");
    return 1;
  }
  if (flags.find("--fake=usage") != std::string::npos) {
    std::fprintf(stderr, "quire_worker: unknown flag --fake\n");
    return 2;
  }
  if (flags.find("--fake=orphan") != std::string::npos) {
    const std::string flag = "--coordinator=127.0.0.1:";
    AwaitEnd(std::stoi(flags.substr(flags.find(flag) + flag.size())));
    std::fprintf(stderr, "E1122 lost the coordinator: Cancelling all calls\n");
    return 1;
  }
  signal(SIGTERM, [](int) { _exit(0); });
  while (true) pause();
}
