// SPDX-License-Identifier: Apache-2.0
//
// paper: the tables and figures of the PagedAttention paper, by simulation or
// on this machine's workers.

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/integer_flag.h"
#include "tools/cli/program.h"
#include "tools/paper/figures.h"
#include "tools/quire/binaries.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

constexpr char kSimulated[] =
    "Simulated with Quire's own engine; lengths are synthetic, lognormal with "
    "the means that\nthe paper publishes for ShareGPT and Alpaca. OPT-13B on "
    "an A100-40G, 15.7K slots, unless\na row says otherwise.";

// A model of the paper's shapes, for workers that make up its weights.
constexpr char kShape[] = "tools/bench/opt_13b/config.json";

constexpr char kReal[] =
    "Measured on this machine's workers, through the whole cluster, with the "
    "paper's pool (15.7K\nslots of OPT-13B unless a row says otherwise). "
    "Lengths "
    "are synthetic, lognormal with the\nmeans that the paper publishes for "
    "ShareGPT and Alpaca; its rates are multiplied by ";

struct Flags {
  std::vector<std::string> figures;
  bool quick = false;
  int64_t jobs = 2;
  std::string out;
  // Of real runs.
  std::string device;
  std::string model;
  int64_t tensor_parallel_size = 1;
  double speed = 4;
  double trace_seconds = 60;
};

int Fail(int exit_code, const absl::Status& status) {
  std::cerr << "paper: " << status.message() << "\n";
  return exit_code;
}

// The figures that were asked for; all if none was.
absl::StatusOr<std::vector<Figure>> Choose(
    const std::vector<std::string>& names) {
  std::vector<Figure> chosen;
  std::string known;
  for (const Figure& figure : Figures()) {
    absl::StrAppend(&known, known.empty() ? "" : ", ", figure.name);
    if (names.empty() || absl::c_linear_search(names, figure.name)) {
      chosen.push_back(figure);
    }
  }
  for (const std::string& name : names) {
    const auto is_it = [&](const Figure& figure) {
      return figure.name == name;
    };
    if (!absl::c_any_of(chosen, is_it)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--figure=", name, " is unknown; known: ", known));
    }
  }
  return chosen;
}

absl::Status WriteFile(const std::filesystem::path& path,
                       const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (file.flush()) return absl::OkStatus();
  return absl::UnavailableError("cannot write " + path.string());
}

absl::Status WriteOutput(const std::string& folder, const std::string& about,
                         const FigureOutput& output) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::filesystem::path out(folder);
  QUIRE_RETURN_IF_ERROR(WriteFile(
      out / "paper.md", absl::StrCat(about, "\n\n", ToMarkdown(output.rows))));
  for (const Plot& plot : output.plots) {
    QUIRE_RETURN_IF_ERROR(WriteFile(out / (plot.name + ".svg"), ToSvg(plot)));
  }
  std::cout << "wrote " << (out / "paper.md").string() << " and "
            << output.plots.size() << " plots\n";
  return absl::OkStatus();
}

// Where the figures run; a real one leaves its logs and recordings in `folder`.
absl::StatusOr<Testbed> MakeTestbed(const Flags& flags,
                                    const std::string& folder) {
  if (flags.device.empty()) return Testbed();
  ClusterOptions cluster = {.quire = "",
                            .device = flags.device,
                            .model = flags.model,
                            .tensor_parallel_size = flags.tensor_parallel_size,
                            .folder = folder};
  if (cluster.model.empty()) {
    // Bazel's data are links, which a loader does not follow.
    std::error_code error;
    cluster.model =
        std::filesystem::canonical(DataFile(kShape), error).parent_path();
  }
  QUIRE_ASSIGN_OR_RETURN(cluster.quire,
                         FindBinary(OwnPath(), "tools/quire", "quire"));
  return RealTestbed(cluster, flags.speed, flags.trace_seconds);
}

absl::StatusOr<std::string> MakeFolder() {
  std::error_code error;
  std::string folder =
      (std::filesystem::temp_directory_path(error) / "quire-paper-XXXXXX")
          .string();
  if (!error && mkdtemp(folder.data()) != nullptr) return folder;
  return absl::UnavailableError("cannot make the folder " + folder);
}

absl::Status Run(const Flags& flags) {
  QUIRE_ASSIGN_OR_RETURN(const std::vector<Figure> figures,
                         Choose(flags.figures));
  QUIRE_ASSIGN_OR_RETURN(const std::string folder, MakeFolder());
  FigureOptions options = {.quick = flags.quick,
                           .num_threads = static_cast<int>(flags.jobs)};
  QUIRE_ASSIGN_OR_RETURN(options.testbed, MakeTestbed(flags, folder));
  if (options.testbed.is_real) options.num_threads = 1;
  const std::string about = options.testbed.is_real
                                ? absl::StrCat(kReal, flags.speed, ".")
                                : kSimulated;
  FigureOutput all;
  for (const Figure& figure : figures) {
    const auto begin = std::chrono::steady_clock::now();
    auto output = figure.run(options);
    if (absl::IsFailedPrecondition(output.status()) && flags.figures.empty()) {
      std::cerr << "figure " << figure.name
                << " is left out: " << output.status().message() << "\n";
      continue;
    }
    if (!output.ok()) {
      return absl::Status(output.status().code(),
                          absl::StrCat("figure ", figure.name, ": ",
                                       std::string(output.status().message())));
    }
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - begin;
    std::cerr << absl::StrFormat("%-7s %-30s %6.1f s\n", figure.name,
                                 figure.title, seconds.count());
    absl::c_move(output->rows, std::back_inserter(all.rows));
    absl::c_move(output->plots, std::back_inserter(all.plots));
  }
  std::cout << about << "\n\n" << ToText(all.rows);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  if (flags.out.empty()) return absl::OkStatus();
  return WriteOutput(flags.out, about, all);
}

// Borrows `values` for the life of `flags`.
void AddTestbedFlags(Flags* values, FlagSet* flags) {
  flags->Add("device", &values->device,
             "Run on such workers, cuda or cpu, instead of simulating.");
  flags->Add("model", &values->model,
             "Hugging Face folder whose shapes they serve; none: OPT-13B's.");
  flags->Add("tensor_parallel_size", &values->tensor_parallel_size,
             "Their ranks.");
  flags->Add("speed", &values->speed,
             "How often they are as fast as the paper's A100: the rates of "
             "figures at fixed rates\nare multiplied by it.");
  flags->Add("trace_seconds", &values->trace_seconds,
             "Longest time of arrivals of a real run.");
}

absl::Status Check(const Flags& values) {
  if (values.jobs < 1) {
    return absl::InvalidArgumentError("--jobs must be above 0");
  }
  if (!values.device.empty() && values.device != "cpu" &&
      values.device != "cuda") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--device=", values.device, " is neither cpu nor cuda, nor empty"));
  }
  QUIRE_RETURN_IF_ERROR(
      InRange<int32_t>("tensor_parallel_size", values.tensor_parallel_size, 1)
          .status());
  if (!(values.speed > 0) || !(values.trace_seconds > 0)) {
    return absl::InvalidArgumentError(
        "--speed and --trace_seconds must be above 0");
  }
  return absl::OkStatus();
}

int Main(const std::vector<std::string>& args) {
  Flags values;
  FlagSet flags("paper [--quick] [--figure=13] [--out=FOLDER]",
                "Runs the evaluation of the PagedAttention paper, by "
                "simulation or, with --device, on this\nmachine's workers in "
                "real time, and prints its numbers beside the paper's.");
  flags.AddList(
      "figure", &values.figures,
      "Which: 2, 12, 13, 14, 15, 16, 17, 18b, 19, ratios; none: all.");
  flags.Add("quick", &values.quick, "Shorter traces.");
  flags.Add("jobs", &values.jobs, "Runs at a time.");
  flags.Add("out", &values.out,
            "Folder for the table in Markdown and the plots in SVG.");
  AddTestbedFlags(&values, &flags);
  const auto positional = flags.Parse(args);
  if (!positional.ok()) return Fail(2, positional.status());
  if (flags.help_requested()) {
    std::cout << flags.Help();
    return 0;
  }
  if (!positional->empty()) {
    return Fail(2, absl::InvalidArgumentError("unexpected argument " +
                                              positional->front()));
  }
  const absl::Status checked = Check(values);
  if (!checked.ok()) return Fail(2, checked);
  const absl::Status status = Run(values);
  if (status.ok()) return 0;
  return Fail(absl::IsInvalidArgument(status) ? 2 : 1, status);
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  quire::BeginProgram(argv[0]);
  return quire::Main({argv + 1, argv + argc});
}
