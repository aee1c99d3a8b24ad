// The corners of a mesh's faces side by side, moved to the origin: what a hierarchy is built from.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "parallel.h"

namespace pyimplicit {

// Corners [F, 9] of faces [F, 3], relative to the middle of the box around them, which goes to `center` [3].
template <typename T>
void gather_corners(const T* vertices, const int32_t* faces, int64_t count, double* center, float* corners,
                    Executor executor) {
  double low[3] = {INFINITY, INFINITY, INFINITY}, high[3] = {-INFINITY, -INFINITY, -INFINITY};
  for (int64_t i = 0; i < 3 * count; ++i) {
    const T* vertex = vertices + 3 * int64_t(faces[i]);
    for (int axis = 0; axis < 3; ++axis) {
      low[axis] = std::min(low[axis], double(vertex[axis]));
      high[axis] = std::max(high[axis], double(vertex[axis]));
    }
  }
  for (int axis = 0; axis < 3; ++axis) center[axis] = 0.5 * low[axis] + 0.5 * high[axis];
  const auto gather = [&](int64_t i) {
    const T* vertex = vertices + 3 * int64_t(faces[i]);
    for (int axis = 0; axis < 3; ++axis) corners[3 * i + axis] = float(double(vertex[axis]) - center[axis]);
  };
  parallel_for(3 * count, gather, executor, 16384);
}

}  // namespace pyimplicit
