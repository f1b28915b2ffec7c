// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/svg_plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace quire {
namespace {

constexpr double kWidth = 640;
constexpr double kHeight = 400;
constexpr double kLeft = 70;
constexpr double kRight = 160;  // for the legend
constexpr double kTop = 36;
constexpr double kBottom = 52;
constexpr int kNumTicks = 5;
// Told apart by people who do not see red and green (Okabe and Ito).
constexpr const char* kColours[] = {"#999999", "#e69f00", "#56b4e9", "#009e73",
                                    "#d55e00", "#0072b2", "#cc79a7", "#000000"};

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

// 1, 2 or 5 times a power of ten, at least `step`.
double NiceStep(double step) {
  const double power = std::pow(10, std::floor(std::log10(step)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= step * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

struct Scale {
  double low = 0;
  double high = 1;
  bool log = false;

  double Share(double value) const {
    if (log) {
      return std::log(value / low) / std::max(1e-9, std::log(high / low));
    }
    return (value - low) / (high - low);
  }
  std::vector<double> Ticks() const {
    std::vector<double> ticks;
    if (log) {
      for (double tick = low; tick <= high * 1.001; tick *= 2) {
        ticks.push_back(tick);
      }
      return ticks;
    }
    const double step = NiceStep((high - low) / kNumTicks);
    for (double tick = low; tick <= high + step * 1e-6; tick += step) {
      ticks.push_back(tick);
    }
    return ticks;
  }
};

class Drawing {
 public:
  explicit Drawing(const Plot& plot) : plot_(plot) {
    FindScales();
    absl::StrAppendFormat(
        &text_,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" "
        "height=\"%g\" font-family=\"sans-serif\" font-size=\"12\">\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
        kWidth, kHeight);
    DrawAxes();
    for (size_t idx = 0; idx < plot.series.size(); ++idx) DrawSeries(idx);
    text_ += "</svg>\n";
  }
  std::string text() const { return text_; }

 private:
  bool Shows(const std::pair<double, double>& point) const {
    return std::isfinite(point.first) && std::isfinite(point.second);
  }

  void FindScales() {
    double low_x = INFINITY, high_x = -INFINITY, high_y = 0;
    for (const PlotSeries& series : plot_.series) {
      for (const auto& point : series.points) {
        if (!Shows(point)) continue;
        low_x = std::min(low_x, point.first);
        high_x = std::max(high_x, point.first);
        high_y = std::max(high_y, point.second);
      }
    }
    if (!(high_x > 0)) high_x = 1;
    x_ = {.low = plot_.log_x ? low_x : 0, .high = high_x, .log = plot_.log_x};
    y_ = {.low = 0, .high = plot_.max_y > 0 ? plot_.max_y : high_y * 1.05};
    if (!(y_.high > 0)) y_.high = 1;
  }

  double X(double value) const {
    return kLeft + x_.Share(value) * (kWidth - kLeft - kRight);
  }
  double Y(double value) const {
    return kHeight - kBottom - y_.Share(value) * (kHeight - kTop - kBottom);
  }

  void Text(double x, double y, const char* attributes,
            const std::string& text) {
    absl::StrAppendFormat(&text_, "<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n",
                          x, y, attributes, Escape(text));
  }
  void Line(double x1, double y1, double x2, double y2, const char* colour) {
    absl::StrAppendFormat(&text_,
                          "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" "
                          "y2=\"%.1f\" stroke=\"%s\"/>\n",
                          x1, y1, x2, y2, colour);
  }

  void DrawAxes() {
    const double right = kWidth - kRight;
    const double bottom = kHeight - kBottom;
    for (double tick : x_.Ticks()) {
      Line(X(tick), kTop, X(tick), bottom, "#eeeeee");
      Text(X(tick), bottom + 16, "text-anchor=\"middle\"",
           absl::StrFormat("%.3g", tick));
    }
    for (double tick : y_.Ticks()) {
      Line(kLeft, Y(tick), right, Y(tick), "#eeeeee");
      Text(kLeft - 6, Y(tick) + 4, "text-anchor=\"end\"",
           absl::StrFormat("%.3g", tick));
    }
    Line(kLeft, bottom, right, bottom, "black");
    Line(kLeft, kTop, kLeft, bottom, "black");
    Text((kLeft + right) / 2, 20, "text-anchor=\"middle\" font-weight=\"bold\"",
         plot_.title);
    Text((kLeft + right) / 2, kHeight - 14, "text-anchor=\"middle\"",
         plot_.x_label);
    absl::StrAppendFormat(&text_,
                          "<text transform=\"translate(18 %.1f) rotate(-90)\" "
                          "text-anchor=\"middle\">%s</text>\n",
                          (kTop + bottom) / 2, Escape(plot_.y_label));
  }

  void DrawSeries(size_t idx) {
    const PlotSeries& series = plot_.series[idx];
    const char* colour = kColours[idx % std::size(kColours)];
    std::string points;
    std::string marks;
    for (const auto& point : series.points) {
      if (!Shows(point)) continue;
      const double y = Y(std::min(point.second, y_.high));
      absl::StrAppendFormat(&points, "%.1f,%.1f ", X(point.first), y);
      absl::StrAppendFormat(
          &marks, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"%s\"/>\n",
          X(point.first), y, colour);
      if (point.second > y_.high) break;
    }
    absl::StrAppendFormat(&text_,
                          "<polyline points=\"%s\" fill=\"none\" "
                          "stroke=\"%s\" stroke-width=\"1.8\"/>\n",
                          points, colour);
    text_ += marks;
    const double y = kTop + 10 + 18 * idx;
    const double x = kWidth - kRight + 14;
    Line(x, y, x + 18, y, colour);
    Text(x + 24, y + 4, "", series.label);
  }

  const Plot& plot_;
  Scale x_;
  Scale y_;
  std::string text_;
};

}  // namespace

std::string ToSvg(const Plot& plot) { return Drawing(plot).text(); }

}  // namespace quire
