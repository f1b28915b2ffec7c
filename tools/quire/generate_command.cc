// SPDX-License-Identifier: Apache-2.0
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "common/wire/status_wire.h"
#include "nlohmann/json.hpp"
#include "proto/inference.grpc.pb.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/rpc.h"
#include "tools/cli/signals.h"
#include "tools/quire/binaries.h"
#include "tools/quire/commands.h"
#include "tools/quire/generation.h"
#include "tools/quire/sampling_flags.h"
#include "tools/quire/text_check.h"
#include "tools/quire/thread_waits.h"

namespace quire {
namespace {

struct Flags {
  std::string target = "localhost:8001";
  std::string model;
  std::string request_id;
  bool json = false;
  std::optional<bool> add_special_tokens;
  double timeout_s = 0;
  double connect_timeout_s = 5;
  SamplingFlags sampling;
};

void AddFlags(Flags* flags, FlagSet* set) {
  set->Add("target", &flags->target, "the server's public gRPC address");
  set->Add("model", &flags->model,
           "a served model's name; empty: the only one");
  set->Add("request_id", &flags->request_id,
           "names the request in logs; empty: the server picks a name");
  set->Add("json", &flags->json,
           "print one JSON object with text, token ids and timing at the end");
  set->Add("add_special_tokens", &flags->add_special_tokens,
           "surround the prompt with the tokenizer's special tokens, such as "
           "BOS");
  set->AddSeconds("timeout_s", &flags->timeout_s,
                  "give the request up after this many seconds; 0: never");
  set->AddSeconds("connect_timeout_s", &flags->connect_timeout_s,
                  "wait this long for a server to answer");
  AddSamplingFlags(&flags->sampling, set);
}

bool IsOfFiles(const std::vector<std::string>& args) {
  return std::any_of(args.begin(), args.end(), [](const std::string& arg) {
    return absl::StartsWith(arg, "--input") ||
           absl::StartsWith(arg, "--output");
  });
}

// Becomes the program that has a model inside it. Returns only if there is
// none.
int RunOffline(const std::vector<std::string>& args) {
  const absl::StatusOr<std::string> binary =
      FindBinary(OwnPath(), "tools/embedded", "quire_offline");
  if (!binary.ok()) {
    std::cerr << "quire generate: " << binary.status().message() << "\n";
    return 1;
  }
  std::vector<std::string> all = args;
  const bool names_model =
      std::any_of(args.begin(), args.end(), [](const std::string& arg) {
        return absl::StartsWith(arg, "--model") ||
               absl::StartsWith(arg, "--target");
      });
  // The demo model lies beside this program, not beside that one.
  const absl::StatusOr<std::string> demo = FindDemoModel(OwnPath());
  if (!names_model && demo.ok()) all.push_back("--model=" + *demo);
  std::vector<char*> argv = {const_cast<char*>(binary->c_str())};
  for (std::string& arg : all) argv.push_back(arg.data());
  argv.push_back(nullptr);
  LimitThreadSpins();
  execv(binary->c_str(), argv.data());
  std::cerr << "quire generate: cannot run " << *binary << ": "
            << strerror(errno) << "\n";
  return 1;
}

int Usage(const std::string& message) {
  std::cerr << "quire generate: " << message << "\n";
  return 2;
}

std::string ReadStandardInput() {
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

// Streams one request. Fails with the server's status, or Cancelled.
absl::Status Stream(const std::shared_ptr<grpc::Channel>& channel,
                    const v1::GenerateRequest& request, const Flags& flags,
                    const Clock& clock, grpc::ClientContext* context,
                    std::vector<Generation>* answers) {
  if (flags.timeout_s > 0) {
    context->set_deadline(
        absl::ToChronoTime(absl::Now() + absl::Seconds(flags.timeout_s)));
  }
  v1::Inference::Stub stub(channel);
  const auto reader = stub.Generate(context, request);
  v1::GenerateResponse response;
  absl::Status bad_stream;
  while (bad_stream.ok() && reader->Read(&response)) {
    for (Generation& answer : *answers) {
      bad_stream.Update(answer.Add(response, clock.Now()));
    }
    if (!flags.json) std::cout << response.prompt().text() << std::flush;
    // Several at once would be a jumble.
    if (!flags.json && response.has_chunk() && answers->size() == 1) {
      std::cout << response.chunk().text() << std::flush;
    }
  }
  if (!bad_stream.ok()) context->TryCancel();
  const absl::Status status = FromGrpcStatus(reader->Finish());
  if (!bad_stream.ok()) return bad_stream;
  if (!status.ok()) return status;
  return answers->front().CheckComplete();
}

// Ends the line of what Stream() has written.
void EndStreamed(const std::vector<Generation>& answers) {
  std::string text = answers[0].prompt_text();
  if (answers.size() == 1) {
    text += answers[0].text();
    if (!text.empty()) std::cout << std::endl;
  } else if (!text.empty() && text.back() != '\n') {
    std::cout << std::endl;
  }
}

void Print(const std::vector<Generation>& answers, bool as_json) {
  if (as_json && answers.size() == 1) {
    std::cout << answers[0].ToJson().dump(2) << "\n";
  } else if (as_json) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const Generation& answer : answers) all.push_back(answer.ToJson());
    std::cout << all.dump(2) << "\n";
  } else if (answers.size() == 1) {
    EndStreamed(answers);
  } else {
    EndStreamed(answers);
    for (size_t i = 0; i < answers.size(); ++i) {
      std::cout << "--- answer " << i + 1 << " of " << answers.size() << " ("
                << answers[i].FinishReason();
      if (const auto sum = answers[i].CumulativeLogprob()) {
        std::cout << absl::StrFormat(", log probability %.3f", *sum);
      }
      std::cout << ")\n" << answers[i].text() << "\n";
    }
    std::cout << std::flush;
  }
}

int Generate(const v1::GenerateRequest& request, const Flags& flags) {
  SignalEvents events(SignalEvents::Children::kIgnore);
  const auto channel = MakeChannel(flags.target);
  grpc::ClientContext context;
  std::atomic<int> interrupted = 0;
  RealClock clock;
  std::vector<Generation> answers;
  absl::Status status;
  {
    // Ctrl-C ends the request, not the connection: the server hears of it.
    InterruptWatcher watcher(&events, [&](int signal) {
      if (interrupted.exchange(signal) != 0) _exit(128 + signal);
      context.TryCancel();
    });
    status = WaitForServer(channel.get(), flags.target,
                           absl::Seconds(flags.connect_timeout_s), &std::cerr);
    if (status.ok() && interrupted == 0) {
      const uint32_t n = std::max<uint32_t>(1, request.sampling().n());
      for (uint32_t i = 0; i < n; ++i) answers.emplace_back(clock.Now(), i);
      status = Stream(channel, request, flags, clock, &context, &answers);
    }
  }
  // Of one that broke off, the terminal shows what was streamed.
  if (status.ok()) {
    Print(answers, flags.json);
  } else if (!flags.json && !answers.empty()) {
    EndStreamed(answers);
  }
  if (interrupted != 0) {
    std::cerr << "quire generate: cancelled\n";
    return 128 + interrupted;
  }
  if (!status.ok()) {
    std::cerr << "quire generate: " << DescribeStatus(status) << "\n";
    return 1;
  }
  if (isatty(STDERR_FILENO) == 1) {
    std::cerr << answers.front().Summary() << "\n";
  }
  return 0;
}

absl::StatusOr<v1::GenerateRequest> ToRequest(const std::string& prompt,
                                              const Flags& flags) {
  QUIRE_RETURN_IF_ERROR(CheckText("--model", flags.model));
  QUIRE_RETURN_IF_ERROR(CheckText("--request_id", flags.request_id));
  v1::GenerateRequest request;
  request.set_request_id(flags.request_id);
  request.set_model(flags.model);
  QUIRE_ASSIGN_OR_RETURN(*request.mutable_sampling(),
                         ToSamplingParams(flags.sampling));
  if (request.sampling().beam_width() > 0 &&
      !request.sampling().has_logprobs()) {
    request.mutable_sampling()->set_logprobs(0);  // what beams are ranked by
  }
  if (flags.add_special_tokens) {
    request.set_add_special_tokens(*flags.add_special_tokens);
  }
  const bool is_input = prompt == "-";
  request.set_text(is_input ? ReadStandardInput() : prompt);
  QUIRE_RETURN_IF_ERROR(
      CheckText(is_input ? "standard input" : "the prompt", request.text()));
  return request;
}

}  // namespace

int GenerateCommand(const std::vector<std::string>& args) {
  if (IsOfFiles(args)) return RunOffline(args);
  Flags flags;
  FlagSet set("quire generate \"prompt\" [flags]   (prompt - : standard input)",
              "Streams the continuation of a prompt to standard output.");
  AddFlags(&flags, &set);
  std::string files;
  set.Add("input", &files,
          "with --output: answer a file of prompts instead; `quire generate "
          "--input= --help` lists that one's flags");
  const auto positional = set.Parse(args);
  if (!positional.ok())
    return Usage(std::string(positional.status().message()));
  if (set.help_requested()) {
    std::cout << set.Help();
    return 0;
  }
  if (positional->size() != 1) {
    return Usage(positional->empty()
                     ? "no prompt; try: quire generate \"Once upon a time\""
                     : "several prompts; put the prompt in quotes");
  }
  const auto request = ToRequest(positional->front(), flags);
  if (!request.ok()) return Usage(std::string(request.status().message()));
  return Generate(*request, flags);
}

}  // namespace quire
