// Occupancy grids of point clouds: the node nearest to each point is 1, every other one 0.
#pragma once

#include <cmath>

#include "base/host_device.h"

namespace pyimplicit {

// Grid nodes along each axis from `low` on, `scale` of them to a unit of length.
struct VoxelNodes {
  int64_t resolution;
  double low, scale;

  // Points outside belong to the border; halfway between two nodes the upper one is taken.
  PIM_HOST_DEVICE int64_t nearest(double coordinate) const {
    const double place = (coordinate - low) * scale;
    if (!(place > 0)) return 0;
    if (place >= double(resolution - 1)) return resolution - 1;
    const double lower = std::floor(place);
    return int64_t(lower) + (place - lower >= 0.5 ? 1 : 0);
  }
};

// Index i is a point; the grid starts at 0. Points that share a node write the same number, whoever comes last.
template <typename T>
struct Voxelise {
  const T* points;  // [B, N, 3]
  int64_t each;     // N
  VoxelNodes nodes;
  // outputs
  T* grid;  // [B, R, R, R] in the order x, y, z

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const T* const p = points + 3 * i;
    const int64_t r = nodes.resolution, x = nodes.nearest(p[0]), y = nodes.nearest(p[1]), z = nodes.nearest(p[2]);
    grid[((i / each * r + x) * r + y) * r + z] = T(1);
  }
};

// For the CPU, whose threads may not write the same place: index i is a cloud and a slab of nodes along x, which it
// clears and then fills with what of the cloud falls into it.
template <typename T>
struct VoxeliseSlab {
  Voxelise<T> whole;
  int64_t slab;  // nodes along x

  void operator()(int64_t i) const {
    const int64_t r = whole.nodes.resolution, slabs = (r + slab - 1) / slab, b = i / slabs;
    const int64_t first = i % slabs * slab, last = first + slab < r ? first + slab : r;
    T* const from = whole.grid + (b * r + first) * r * r;
    for (int64_t place = 0; place < (last - first) * r * r; ++place) from[place] = 0;
    for (int64_t n = b * whole.each; n < (b + 1) * whole.each; ++n) {
      const int64_t x = whole.nodes.nearest(whole.points[3 * n]);
      if (x >= first && x < last) whole(n);
    }
  }
};

}  // namespace pyimplicit
