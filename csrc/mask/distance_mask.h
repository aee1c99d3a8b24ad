// Which query points, or nodes of a grid, lie within a distance of a point cloud.
//
// A point counts as near if (dx dx + dy dy) + dz dz <= distance distance in double precision, each operation rounded.
// Whatever is decided faster is decided by bounds that rounding cannot turn.
#pragma once

#include "base/vec3.h"

namespace pyimplicit {

// One cloud or a batch of them, sorted by the cells of a uniform grid, which is the same for all.
struct CloudGrid {
  const float* cloud;         // [B M, 3] in cell order, one cloud after the other
  const int32_t* cell_start;  // [B X Y Z + 1] first cloud point of each cell; z is the fastest axis
  double low[3];              // corner of the grid, mesh units
  double cell_size;           // mesh units
  int64_t size[3];            // cells along x, y, z

  // Far more than rounding moves a point against the sides of its cell (corner and points are float32, there are at
  // most 128 cells along an axis).
  PIM_HOST_DEVICE double slack() const { return 1e-9 * cell_size; }

  PIM_HOST_DEVICE double per_cell() const { return 1 / cell_size; }

  PIM_HOST_DEVICE int64_t row(int64_t item, int64_t x, int64_t y) const {
    return ((item * size[0] + x) * size[1] + y) * size[2];
  }

  // How far `at`, from the grid's corner, is from the cells with the given place along an axis.
  PIM_HOST_DEVICE double gap(double at, int64_t cell) const {
    return larger(0.0, larger(double(cell) * cell_size - at, at - double(cell + 1) * cell_size));
  }

  // Cells along an axis that touch [at - reach, at + reach]; false if there are none, as for NaN.
  PIM_HOST_DEVICE bool cells(int axis, double at, double reach, int64_t& first, int64_t& last) const {
    const double below = std::floor((at - reach) * per_cell()), above = std::floor((at + reach) * per_cell());
    if (!(above >= 0 && below <= double(size[axis] - 1))) return false;
    first = below > 0 ? int64_t(below) : 0;
    last = above < double(size[axis] - 1) ? int64_t(above) : size[axis] - 1;
    return true;
  }
};

// The k-th place of first..last, counted from `middle` outwards; -1 where that leaves them.
PIM_HOST_DEVICE inline int64_t outwards(int64_t k, int64_t middle, int64_t first, int64_t last) {
  const int64_t place = k % 2 == 0 ? middle - k / 2 : middle + (k + 1) / 2;
  return place < first || place > last ? -1 : place;
}

PIM_HOST_DEVICE inline int64_t middle_place(double at, double cell_size, int64_t first, int64_t last) {
  const double cell = std::floor(at / cell_size);
  return cell <= double(first) ? first : cell >= double(last) ? last : int64_t(cell);
}

// Whether a point of cloud `item` lies at most `distance` from p. Rows of cells that the ball around p cannot reach are
// left out, and the nearest rows come first.
PIM_HOST_DEVICE inline bool near_cloud(Vec3d p, const CloudGrid& grid, int64_t item, double distance) {
  const double at[3] = {p.x - grid.low[0], p.y - grid.low[1], p.z - grid.low[2]};
  const double reach = distance + grid.slack(), limit = mul_rounded(distance, distance);
  int64_t x0, x1, y0, y1;
  if (!grid.cells(0, at[0], reach, x0, x1) || !grid.cells(1, at[1], reach, y0, y1)) return false;
  const int64_t x_middle = middle_place(at[0], grid.cell_size, x0, x1);
  const int64_t y_middle = middle_place(at[1], grid.cell_size, y0, y1);
  for (int64_t i = 0; i <= 2 * (x1 - x0) + 1; ++i) {
    const int64_t x = outwards(i, x_middle, x0, x1);
    if (x < 0) continue;
    const double gap_x = grid.gap(at[0], x);
    for (int64_t j = 0; j <= 2 * (y1 - y0) + 1; ++j) {
      const int64_t y = outwards(j, y_middle, y0, y1);
      if (y < 0) continue;
      const int64_t row = grid.row(item, x, y);
      const double gap_y = grid.gap(at[1], y), left = reach * reach - gap_x * gap_x - gap_y * gap_y;
      if (left < 0 || grid.cell_start[row] == grid.cell_start[row + grid.size[2]]) continue;
      int64_t z0, z1;
      if (!grid.cells(2, at[2], std::sqrt(left) + grid.slack(), z0, z1)) continue;
      // Cells along z lie one behind the other, so those of a row are one range of the cloud.
      const int64_t end = grid.cell_start[row + z1 + 1];
      for (int64_t k = grid.cell_start[row + z0]; k < end; ++k) {
        if (squared_length_rounded(Vec3d(load3(grid.cloud, k)) - p) <= limit) return true;
      }
    }
  }
  return false;
}

// Cells that are known to lie wholly within the distance or wholly beyond it. Beyond the grid everything is far.
struct MaskCells {
  const uint8_t* state;  // [X, Y, Z], z fastest; null: nothing is known
  double low[3];         // corner, mesh units
  double cell_size;      // mesh units
  int64_t size[3];

  enum State : uint8_t { kFar = 0, kNear = 1, kBoundary = 2 };

  template <typename T>
  PIM_HOST_DEVICE uint8_t of(const T* point) const {
    int64_t cell = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const double place = std::floor((double(point[axis]) - low[axis]) / cell_size);
      if (!(place >= 0 && place < double(size[axis]))) return kFar;  // NaN as well
      cell = cell * size[axis] + int64_t(place);
    }
    return state[cell];
  }
};

template <typename T>
struct DistanceMask {
  const T* points;  // [B, N, 3] mesh units
  int64_t each;     // N
  CloudGrid grid;
  MaskCells cells;  // of a single cloud
  double distance;  // mesh units
  // outputs
  bool* mask;  // [B, N] whether a cloud point is at most `distance` away

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    uint8_t state = MaskCells::kBoundary;
    if (cells.state != nullptr) state = cells.of(points + 3 * i);
    mask[i] = state == MaskCells::kBoundary ? near_cloud(Vec3d(load3(points, i)), grid, i / each, distance)
                                            : state == MaskCells::kNear;
  }
};

// Of each point the state of its cell: for masks whose exact test is not a cloud's.
template <typename T>
struct LookUpMaskCells {
  const T* points;  // [N, 3]
  MaskCells cells;
  // outputs
  uint8_t* state;  // [N]

  PIM_HOST_DEVICE void operator()(int64_t i) const { state[i] = cells.of(points + 3 * i); }
};

// The mask of all nodes of a grid. On the CPU the body is run only where the twin of distance_mask_cpu.cpp cannot be.
struct DistanceMaskGrid {
  const double* axes[3];  // coordinates of the nodes along x, y, z, in ascending order
  int64_t nodes[3];       // how many
  CloudGrid grid;
  double distance;  // mesh units
  // outputs
  bool* mask;  // [B, X, Y, Z], z fastest

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t z = i % nodes[2], y = i / nodes[2] % nodes[1], x = i / nodes[2] / nodes[1] % nodes[0];
    const Vec3d p = {axes[0][x], axes[1][y], axes[2][z]};
    mask[i] = near_cloud(p, grid, i / nodes[2] / nodes[1] / nodes[0], distance);
  }
};

}  // namespace pyimplicit
