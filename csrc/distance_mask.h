// Which query points lie within a distance of a point cloud, by a uniform grid over the cloud.
#pragma once

#include "vec3.h"

namespace pyimplicit {

// The cloud sorted by grid cell. Cells are at least `distance` wide, so the 27 around a query hold every cloud point
// that can be near enough.
struct CloudGrid {
  const float* cloud;         // [M, 3] in cell order
  const int32_t* cell_start;  // [cells + 1] first cloud point of each cell; x is the fastest axis
  double low[3];              // corner of the grid, mesh units
  double cell_size;           // mesh units
  int64_t size[3];            // cells along x, y, z
};

template <typename T>
struct DistanceMask {
  const T* points;  // [N, 3] mesh units
  CloudGrid grid;
  double distance;  // mesh units
  // outputs
  bool* mask;  // [N] whether some cloud point is at most `distance` away

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Vec3d p = Vec3d(load3(points, i));
    const double at[3] = {p.x, p.y, p.z};
    int64_t first[3], last[3];
    mask[i] = false;
    for (int axis = 0; axis < 3; ++axis) {
      const double cell = std::floor((at[axis] - grid.low[axis]) / grid.cell_size);
      // Far outside, or NaN: no cloud point near, and no conversion of a huge value to an integer.
      if (!(cell >= -2 && cell <= double(grid.size[axis]) + 1)) return;
      first[axis] = int64_t(cell) - 1 < 0 ? 0 : int64_t(cell) - 1;
      last[axis] = int64_t(cell) + 1 >= grid.size[axis] ? grid.size[axis] - 1 : int64_t(cell) + 1;
    }
    const double limit = distance * distance;
    for (int64_t z = first[2]; z <= last[2]; ++z) {
      for (int64_t y = first[1]; y <= last[1]; ++y) {
        if (first[0] > last[0]) continue;
        // Cells along x lie one behind the other, so a row of up to three is one range of the cloud.
        const int64_t row = (z * grid.size[1] + y) * grid.size[0];
        const int64_t end = grid.cell_start[row + last[0] + 1];
        for (int64_t j = grid.cell_start[row + first[0]]; j < end; ++j) {
          const Vec3d arm = Vec3d(load3(grid.cloud, j)) - p;
          if (dot(arm, arm) <= limit) {
            mask[i] = true;
            return;
          }
        }
      }
    }
  }
};

}  // namespace pyimplicit
