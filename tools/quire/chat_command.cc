// SPDX-License-Identifier: Apache-2.0
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <signal.h>
#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/status_macros.h"
#include "common/wire/status_wire.h"
#include "proto/inference.grpc.pb.h"
#include "tools/cli/colour.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/rpc.h"
#include "tools/cli/signals.h"
#include "tools/quire/chat_history.h"
#include "tools/quire/commands.h"
#include "tools/quire/sampling_flags.h"
#include "tools/quire/text_check.h"

namespace quire {
namespace {

struct Flags {
  std::string target = "localhost:8001";
  std::string model;
  std::string system;
  std::string template_kwargs;
  double connect_timeout_s = 5;
  SamplingFlags sampling;
};

void AddFlags(Flags* flags, FlagSet* set) {
  set->Add("target", &flags->target, "the server's public gRPC address");
  set->Add("model", &flags->model,
           "a served model's name; empty: the only one");
  set->Add("system", &flags->system, "what is said before everything else");
  set->Add("template_kwargs", &flags->template_kwargs,
           "a JSON object of variables for the chat template, such as "
           "{\"enable_thinking\": false}");
  set->AddSeconds("connect_timeout_s", &flags->connect_timeout_s,
                  "wait this long for a server to answer");
  AddSamplingFlags(&flags->sampling, set);
}

int Usage(const std::string& message) {
  std::cerr << "quire chat: " << message << "\n";
  return 2;
}

// What an interrupt means now. Thread-safe.
class Interrupts final {
 public:
  explicit Interrupts(SignalEvents* events)
      : watcher_(events, [this](int signal) { OnSignal(signal); }) {}

  // An answer begins, or has ended (null).
  void SetAnswer(grpc::ClientContext* context) {
    absl::MutexLock lock(&mutex_);
    answer_ = context;
    was_stopped_ = was_stopped_ && context == nullptr;
    num_idle_ = 0;
  }
  bool was_stopped() const {
    absl::MutexLock lock(&mutex_);
    return was_stopped_;
  }

 private:
  void OnSignal(int signal) {
    absl::MutexLock lock(&mutex_);
    if (signal != SIGINT) _exit(128 + signal);
    if (answer_ != nullptr) {
      was_stopped_ = true;
      answer_->TryCancel();
      return;
    }
    if (++num_idle_ > 1) _exit(128 + signal);
    std::cerr << "\n(Ctrl-D leaves; so does Ctrl-C again)" << std::endl;
  }

  mutable absl::Mutex mutex_;
  grpc::ClientContext* answer_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool was_stopped_ ABSL_GUARDED_BY(mutex_) = false;
  int num_idle_ ABSL_GUARDED_BY(mutex_) = 0;
  InterruptWatcher watcher_;  // ends first
};

// Writes an answer as it comes: its text, its calls in brackets.
class AnswerPrinter {
 public:
  explicit AnswerPrinter(const Painter* painter) : painter_(painter) {}

  void Show(const v1::ChatChunk& chunk) {
    for (const v1::ToolCallDelta& delta : chunk.tool_calls()) {
      if (!delta.call().name().empty()) {
        End();
        in_call_ = true;
        std::cout << painter_->Cyan("[calls " + delta.call().name() + "(");
      }
      std::cout << painter_->Cyan(delta.call().arguments_json());
    }
    if (!chunk.content().empty()) End();
    std::cout << chunk.content() << std::flush;
  }
  // Of the call that is being written.
  void End() {
    if (in_call_) std::cout << painter_->Cyan(")]") << std::flush;
    in_call_ = false;
  }

 private:
  const Painter* painter_;
  bool in_call_ = false;
};

void AddDelta(const v1::ToolCallDelta& delta, v1::ChatMessage* answer) {
  if (static_cast<int>(delta.index()) >= answer->tool_calls_size()) {
    *answer->add_tool_calls() = delta.call();
    return;
  }
  answer->mutable_tool_calls(delta.index())
      ->mutable_arguments_json()
      ->append(delta.call().arguments_json());
}

// Streams one answer to the terminal and returns it, whole or as far as it
// came.
absl::Status Ask(v1::Inference::Stub* stub, const v1::ChatRequest& request,
                 const Painter& painter, Interrupts* interrupts,
                 v1::ChatMessage* answer) {
  answer->set_role("assistant");
  grpc::ClientContext context;
  interrupts->SetAnswer(&context);
  const auto reader = stub->Chat(&context, request);
  AnswerPrinter printer(&painter);
  std::string content;
  bool is_complete = false;
  v1::ChatResponse response;
  while (reader->Read(&response)) {
    is_complete |= response.has_complete();
    if (!response.has_chunk()) continue;
    printer.Show(response.chunk());
    content += response.chunk().content();
    for (const v1::ToolCallDelta& delta : response.chunk().tool_calls()) {
      AddDelta(delta, answer);
    }
  }
  printer.End();
  const absl::Status status = FromGrpcStatus(reader->Finish());
  interrupts->SetAnswer(nullptr);
  if (!content.empty() || answer->tool_calls_size() == 0) {
    answer->set_content(content);
  }
  if (status.ok() && !is_complete) {
    return absl::DataLossError(
        "the stream ended without saying that it was complete");
  }
  return status;
}

// Reads lines until they end. Returns whether every one was answered.
bool Talk(v1::Inference::Stub* stub, const v1::ChatRequest& base,
          const std::string& system, bool is_terminal, Interrupts* interrupts) {
  const Painter painter(IsColourTerminal(STDOUT_FILENO));
  ChatHistory history(system);
  bool all_answered = true;
  std::string line;
  while (true) {
    if (is_terminal) std::cout << painter.Bold("> ") << std::flush;
    if (!std::getline(std::cin, line)) break;
    const absl::Status is_text = CheckText("the line", line);
    if (!is_text.ok()) {
      all_answered = false;
      std::cerr << "quire chat: " << is_text.message() << std::endl;
      continue;
    }
    const ChatHistory::Reaction reaction = history.React(line);
    if (reaction.action == ChatHistory::Action::kQuit) return all_answered;
    if (reaction.action == ChatHistory::Action::kTell) {
      if (!reaction.reply.empty()) {
        std::cout << painter.Dim(reaction.reply) << std::endl;
      }
      continue;
    }
    v1::ChatRequest request = base;
    history.FillRequest(&request);
    v1::ChatMessage answer;
    const absl::Status status =
        Ask(stub, request, painter, interrupts, &answer);
    std::cout << std::endl;
    if (status.ok() || interrupts->was_stopped()) {
      history.AddAnswer(answer);
      if (!status.ok()) std::cerr << painter.Dim("(stopped)") << std::endl;
      continue;
    }
    history.TakeBack();
    all_answered = false;
    std::cerr << "quire chat: " << DescribeStatus(status) << std::endl;
  }
  if (is_terminal) std::cout << std::endl;
  return all_answered;
}

// What every turn's request has.
absl::StatusOr<v1::ChatRequest> ToRequest(const Flags& flags) {
  QUIRE_RETURN_IF_ERROR(CheckText("--model", flags.model));
  QUIRE_RETURN_IF_ERROR(CheckText("--system", flags.system));
  QUIRE_RETURN_IF_ERROR(CheckText("--template_kwargs", flags.template_kwargs));
  v1::ChatRequest base;
  QUIRE_ASSIGN_OR_RETURN(*base.mutable_sampling(),
                         ToSamplingParams(flags.sampling));
  if (base.sampling().n() > 1) {
    return absl::InvalidArgumentError("--n: a conversation has one answer");
  }
  base.set_model(flags.model);
  base.set_template_kwargs_json(flags.template_kwargs);
  return base;
}

}  // namespace

int ChatCommand(const std::vector<std::string>& args) {
  Flags flags;
  FlagSet set("quire chat [flags]",
              "Talks with a served model; /help lists what can be said to the "
              "program itself.");
  AddFlags(&flags, &set);
  const auto positional = set.Parse(args);
  if (!positional.ok()) {
    return Usage(std::string(positional.status().message()));
  }
  if (set.help_requested()) {
    std::cout << set.Help();
    return 0;
  }
  if (!positional->empty()) {
    return Usage("messages come from standard input; try: echo \"" +
                 positional->front() + "\" | quire chat");
  }
  const auto base = ToRequest(flags);
  if (!base.ok()) return Usage(std::string(base.status().message()));

  SignalEvents events(SignalEvents::Children::kIgnore);
  const auto channel = MakeChannel(flags.target);
  Interrupts interrupts(&events);
  const absl::Status there =
      WaitForServer(channel.get(), flags.target,
                    absl::Seconds(flags.connect_timeout_s), &std::cerr);
  if (!there.ok()) {
    std::cerr << "quire chat: " << DescribeStatus(there) << "\n";
    return 1;
  }
  const bool is_terminal =
      isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
  if (is_terminal) std::cout << "/help lists commands\n";
  v1::Inference::Stub stub(channel);
  const bool all_answered =
      Talk(&stub, *base, flags.system, is_terminal, &interrupts);
  // Who talks has seen what went wrong; a script has to be told.
  return all_answered || is_terminal ? 0 : 1;
}

}  // namespace quire
