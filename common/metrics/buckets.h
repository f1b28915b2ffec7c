// SPDX-License-Identifier: Apache-2.0
//
// Bucket boundaries of Quire's histograms: vLLM's, so that dashboards overlay.
#ifndef COMMON_METRICS_BUCKETS_H_
#define COMMON_METRICS_BUCKETS_H_

#include <vector>

namespace quire {

// Seconds.
inline std::vector<double> FirstTokenBuckets() {
  return {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
          1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
}

// Seconds; two finer ones in front of vLLM's.
inline std::vector<double> InterTokenBuckets() {
  return {.002, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4,
          .5,   .75,  1,   2.5,  5,   7.5,  10, 20,  40, 80};
}

// Seconds.
inline std::vector<double> RequestBuckets() {
  return {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
          30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
}

// Seconds of one step: 1-2-5 from 100 us.
inline std::vector<double> StepBuckets() {
  return {.0001, .0002, .0005, .001, .002, .005, .01, .02,
          .05,   .1,    .2,    .5,   1,    2,    5,   10};
}

// Tokens of a request: 1-2-5 up to the longest windows.
inline std::vector<double> TokenCountBuckets() {
  return {1,    2,    5,    10,    20,    50,    100,    200,   500,
          1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
}

// Tokens of a step.
inline std::vector<double> StepTokenBuckets() {
  return {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
}

}  // namespace quire

#endif  // COMMON_METRICS_BUCKETS_H_
