// The corners of a mesh's faces side by side, moved to the origin: what a hierarchy is built from.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/parallel.h"

namespace pyimplicit {

// Corners [F, 9] of faces [F, 3], relative to the middle of the box around them, which goes to `center` [3], and times a
// power of two, which goes to `scale` [1] and makes the largest of them at least a half and below one: squares of them
// then neither vanish nor overflow, however small or large the mesh is, and no digit is lost.
template <typename T>
void gather_corners(const T* vertices, const int32_t* faces, int64_t count, double* center, double* scale,
                    float* corners, Executor executor) {
  double low[3] = {INFINITY, INFINITY, INFINITY}, high[3] = {-INFINITY, -INFINITY, -INFINITY};
  for (int64_t i = 0; i < 3 * count; ++i) {
    const T* vertex = vertices + 3 * int64_t(faces[i]);
    for (int axis = 0; axis < 3; ++axis) {
      low[axis] = std::min(low[axis], double(vertex[axis]));
      high[axis] = std::max(high[axis], double(vertex[axis]));
    }
  }
  double extent = 0;
  for (int axis = 0; axis < 3; ++axis) {
    center[axis] = 0.5 * low[axis] + 0.5 * high[axis];
    extent = std::max(extent, high[axis] - center[axis]);
  }
  int exponent = 0;
  std::frexp(extent, &exponent);  // 0 for a mesh that is a point
  *scale = std::ldexp(1.0, -exponent);
  const auto gather = [&](int64_t i) {
    const T* vertex = vertices + 3 * int64_t(faces[i]);
    for (int axis = 0; axis < 3; ++axis) corners[3 * i + axis] = float((double(vertex[axis]) - center[axis]) * *scale);
  };
  parallel_for(3 * count, gather, executor, 16384);
}

}  // namespace pyimplicit
