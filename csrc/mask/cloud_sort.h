// Sorting point clouds into the cells of a grid, on the CPU: counting sort.
#pragma once

#include <algorithm>
#include <vector>

#include "base/parallel.h"

namespace pyimplicit {

// Smallest and largest coordinates of `count` points: box [6], lowest corner first. NaN if one of them is.
inline void cloud_box(const float* cloud, int64_t count, double* box) {
  float low[3] = {INFINITY, INFINITY, INFINITY}, high[3] = {-INFINITY, -INFINITY, -INFINITY}, spoiled = 0;
  for (int64_t i = 0; i < count; ++i) {
    for (int axis = 0; axis < 3; ++axis) {
      const float value = cloud[3 * i + axis];
      low[axis] = value < low[axis] ? value : low[axis];
      high[axis] = value > high[axis] ? value : high[axis];
      spoiled += value - value;  // 0, or NaN for NaN and infinity
    }
  }
  for (int axis = 0; axis < 3; ++axis) {
    box[axis] = spoiled == 0 ? low[axis] : NAN;
    box[3 + axis] = spoiled == 0 ? high[axis] : NAN;
  }
}

// Clouds [B, each, 3] in the order of their cells, and the first point of each cell; z is the fastest axis. Points of
// one cell keep their order.
struct SortCloud {
  const float* clouds;
  int64_t each;
  double low[3], cell_size;
  int64_t size[3];
  // outputs
  float* sorted;        // [B each, 3]
  int32_t* cell_start;  // [B X Y Z + 1]; the last entry is the caller's

  void operator()(int64_t item) const {
    const int64_t cells = size[0] * size[1] * size[2];
    const float* points = clouds + 3 * each * item;
    int32_t* start = cell_start + cells * item;
    std::vector<int32_t> cell(each), next(cells, 0);
    for (int64_t i = 0; i < each; ++i) {
      int64_t place[3];
      for (int axis = 0; axis < 3; ++axis) {
        const double inside = std::floor((double(points[3 * i + axis]) - low[axis]) / cell_size);
        place[axis] = std::min(std::max<int64_t>(int64_t(inside), 0), size[axis] - 1);
      }
      cell[i] = int32_t((place[0] * size[1] + place[1]) * size[2] + place[2]);
      ++next[cell[i]];
    }
    int32_t before = int32_t(each * item);
    for (int64_t c = 0; c < cells; ++c) {
      start[c] = before;
      before += next[c];
      next[c] = start[c];
    }
    for (int64_t i = 0; i < each; ++i) {
      std::copy_n(points + 3 * i, 3, sorted + 3 * int64_t(next[cell[i]]++));
    }
  }
};

}  // namespace pyimplicit
