// SPDX-License-Identifier: Apache-2.0
//
// paper: the tables and figures of the PagedAttention paper, by simulation.
#include <glog/logging.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
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
#include "tools/paper/figures.h"

namespace quire {
namespace {

constexpr char kAbout[] =
    "Simulated with Quire's own engine; lengths are synthetic, lognormal with "
    "the means that\nthe paper publishes for ShareGPT and Alpaca. OPT-13B on "
    "an A100-40G, 15.7K slots, unless\na row says otherwise.";

struct Flags {
  std::vector<std::string> figures;
  bool quick = false;
  int64_t jobs = 2;
  std::string out;
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

absl::Status WriteOutput(const std::string& folder,
                         const FigureOutput& output) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::filesystem::path out(folder);
  QUIRE_RETURN_IF_ERROR(WriteFile(
      out / "paper.md", absl::StrCat(kAbout, "\n\n", ToMarkdown(output.rows))));
  for (const Plot& plot : output.plots) {
    QUIRE_RETURN_IF_ERROR(WriteFile(out / (plot.name + ".svg"), ToSvg(plot)));
  }
  std::cout << "wrote " << (out / "paper.md").string() << " and "
            << output.plots.size() << " plots\n";
  return absl::OkStatus();
}

absl::Status Run(const Flags& flags) {
  QUIRE_ASSIGN_OR_RETURN(const std::vector<Figure> figures,
                         Choose(flags.figures));
  const FigureOptions options = {.quick = flags.quick,
                                 .num_threads = static_cast<int>(flags.jobs)};
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
  std::cout << kAbout << "\n\n" << ToText(all.rows);
  return flags.out.empty() ? absl::OkStatus() : WriteOutput(flags.out, all);
}

int Main(const std::vector<std::string>& args) {
  Flags values;
  FlagSet flags("paper [--quick] [--figure=13] [--out=FOLDER]",
                "Runs the evaluation of the PagedAttention paper by "
                "simulation and prints its numbers\nbeside the paper's.");
  flags.AddList(
      "figure", &values.figures,
      "Which: 2, 12, 13, 14, 15, 16, 17, 18b, 19, ratios; none: all.");
  flags.Add("quick", &values.quick, "Shorter traces.");
  flags.Add("jobs", &values.jobs, "Runs at a time.");
  flags.Add("out", &values.out,
            "Folder for the table in Markdown and the plots in SVG.");
  const auto positional = flags.Parse(args);
  if (!positional.ok()) return Fail(2, positional.status());
  if (flags.help_requested()) {
    std::cout << flags.Help();
    return 0;
  }
  if (!positional->empty() || values.jobs < 1) {
    return Fail(2, absl::InvalidArgumentError(
                       "flags only, and --jobs must be above 0"));
  }
  const absl::Status status = Run(values);
  if (status.ok()) return 0;
  return Fail(absl::IsInvalidArgument(status) ? 2 : 1, status);
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  // `bazel run` starts programs elsewhere than where the user stands.
  if (const char* dir = std::getenv("BUILD_WORKING_DIRECTORY")) {
    PLOG_IF(WARNING, chdir(dir) != 0) << dir;
  }
  return quire::Main({argv + 1, argv + argc});
}
