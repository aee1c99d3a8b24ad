// A grid over the space around a mesh that names, for each cell, the leaf nearest to the cell's center: where a query
// looks first. With a good first guess a search visits little more than it must.
#pragma once

#include "base/vec3.h"

namespace pyimplicit {

struct StartGrid {
  const int32_t* leaf;    // [R, R, R] nearest leaf, or null: no grid
  const float* distance;  // [R, R, R] signed distance of the center, or null; passes its sign on to points nearby
  int32_t resolution;     // R
  float half_side;        // of the cube that the grid covers, in coordinates of the hierarchy

  // Index of the cell that holds p, or of the outermost cell nearest to it.
  PIM_HOST_DEVICE int64_t cell(Vec3f p) const {
    return (int64_t(along(p.x)) * resolution + along(p.y)) * resolution + along(p.z);
  }

  PIM_HOST_DEVICE Vec3f center(Vec3f p) const {
    const float side = 2 * half_side / float(resolution);
    return {(float(along(p.x)) + 0.5f) * side - half_side, (float(along(p.y)) + 0.5f) * side - half_side,
            (float(along(p.z)) + 0.5f) * side - half_side};
  }

 private:
  PIM_HOST_DEVICE int along(float x) const {
    const float at = (x + half_side) * (float(resolution) / (2 * half_side));
    return at > 0 ? at < float(resolution) ? int(at) : resolution - 1 : 0;
  }
};

}  // namespace pyimplicit
