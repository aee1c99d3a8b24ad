// A binary bounding volume hierarchy over triangles: its layout and its traversal, for CPU and GPU.
//
// Everything is relative to `center`, the middle of the mesh's bounding box, so that float32 keeps its precision for
// a mesh far from the origin.
#pragma once

#include "triangle.h"

namespace pyimplicit {

constexpr int kMomentSize = 16;  // floats of a node's moments: center 3, area normal 3, second moment 9, radius 1
constexpr int kMostDepth = 96;   // the builder keeps every tree below this depth, so a traversal's stack is fixed

struct Bvh {
  const float* bounds;     // [M, 6] smallest x y z, largest x y z
  const int32_t* links;    // [M, 2] inner node: first of its two adjacent children, 0; leaf: first triangle, count
  const float* moments;    // [M, 16], or null where only distances are asked
  const float* triangles;  // [F, 9] corners a, b, c in leaf order
  const double* center;    // [3] mesh units

  PIM_HOST_DEVICE Vec3d corner(int64_t slot, int which) const {
    return Vec3d(load3(triangles, 3 * slot + which));
  }

  // Squared distance from p to a node's box, never above the true distance to what it holds.
  PIM_HOST_DEVICE double box_distance_squared(int node, Vec3f p) const {
    const float* box = bounds + 6 * int64_t(node);
    const float x = fmaxf(fmaxf(box[0] - p.x, p.x - box[3]), 0.0f);
    const float y = fmaxf(fmaxf(box[1] - p.y, p.y - box[4]), 0.0f);
    const float z = fmaxf(fmaxf(box[2] - p.z, p.z - box[5]), 0.0f);
    // The differences are rounded to float32, by less than 1e-6 of the value: the factor keeps the bound a lower one.
    // Squared in double, because a point at 1e30 must still find its answer.
    return (double(x) * x + double(y) * y + double(z) * z) * 0.999999;
  }

  // Calls at_leaf(slot) for the triangles of every leaf whose box is nearer than best(), nearest boxes first.
  template <typename Best, typename AtTriangle>
  PIM_HOST_DEVICE void visit_nearest(Vec3f p, const Best& best, const AtTriangle& at_triangle) const {
    struct Waiting {
      int node;
      double distance_squared;
    } stack[kMostDepth];
    int waiting = 0;
    stack[waiting++] = {0, box_distance_squared(0, p)};
    while (waiting > 0) {
      const Waiting top = stack[--waiting];
      if (!(top.distance_squared < best())) continue;
      int node = top.node;
      while (links[2 * int64_t(node) + 1] == 0) {
        int near = links[2 * int64_t(node)], far = near + 1;
        double near_squared = box_distance_squared(near, p), far_squared = box_distance_squared(far, p);
        if (far_squared < near_squared) {
          const int node_swap = near;
          near = far;
          far = node_swap;
          const double distance_swap = near_squared;
          near_squared = far_squared;
          far_squared = distance_swap;
        }
        if (far_squared < best()) stack[waiting++] = {far, far_squared};
        if (!(near_squared < best())) {
          node = -1;
          break;
        }
        node = near;
      }
      if (node < 0) continue;
      const int64_t first = links[2 * int64_t(node)], count = links[2 * int64_t(node) + 1];
      for (int64_t slot = first; slot < first + count; ++slot) at_triangle(slot);
    }
  }
};

}  // namespace pyimplicit
