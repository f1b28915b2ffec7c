// SPDX-License-Identifier: Apache-2.0
//
// Line plots as SVG, without a library: what a README needs and no more.
#ifndef TOOLS_PAPER_SVG_PLOT_H_
#define TOOLS_PAPER_SVG_PLOT_H_

#include <string>
#include <utility>
#include <vector>

namespace quire {

struct PlotSeries {
  std::string label;
  std::vector<std::pair<double, double>> points;  // (x, y), by x
};

struct Plot {
  std::string name = {};  // of its file, without ".svg"
  std::string title = {};
  std::string x_label = {};
  std::string y_label = {};
  double max_y = 0;    // points above are cut off; 0: the largest
  bool log_x = false;  // powers of two; every x > 0
  std::vector<PlotSeries> series = {};
};

// A document of 640 by 400. Points that are not finite are left out.
std::string ToSvg(const Plot& plot);

}  // namespace quire

#endif  // TOOLS_PAPER_SVG_PLOT_H_
