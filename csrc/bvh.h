// An eight-wide bounding volume hierarchy over triangles: its layout and its plain traversal, for CPU and GPU.
//
// Everything is relative to `center`, the middle of the mesh's bounding box, so that float32 keeps its precision for
// a mesh far from the origin. Eight children stand side by side in structure-of-arrays order, one SIMD register each.
#pragma once

#include "triangle.h"

namespace pyimplicit {

constexpr int kWidth = 8;         // children of a node, and most triangles of a leaf
constexpr int kMostDepth = 24;    // levels of the tree; the builder halves by count where it would pass this
constexpr int kStackSize = kMostDepth * (kWidth - 1) + kWidth;
constexpr int kMomentSize = 16;   // center 3, area normal 3, second moment 9, radius 1
constexpr int kFrameSize = 14;    // corner 3, x axis 3, normal 3, b.x, c.x, c.y, 1 / |ac|^2, 1 / |bc|^2
constexpr int32_t kNoChild = INT32_MIN;

struct Bvh {
  const float* bounds;        // [M, 6, 8] smallest x y z, largest x y z of each child; empty boxes where there is none
  const int32_t* links;       // [M, 8] inner node >= 0, leaf ~leaf < 0, or kNoChild
  const float* moments;       // [M, 16, 8] of each child
  const int32_t* leaf_first;  // [L + 1] first triangle of each leaf
  const float* frames;        // [L, 14, 8] triangles in frames of their own, for the SIMD twin; lanes padded
  const float* triangles;     // [F, 9] corners a, b, c in leaf order
  const double* center;       // [3] mesh units

  PIM_HOST_DEVICE Vec3d corner(int64_t slot, int which) const { return Vec3d(load3(triangles, 3 * slot + which)); }

  // Squared distance from p to a child's box, never above the true distance to what it holds.
  PIM_HOST_DEVICE double box_distance_squared(int64_t node, int child, Vec3f p) const {
    const float* box = bounds + 6 * kWidth * node + child;
    const float x = fmaxf(fmaxf(box[0 * kWidth] - p.x, p.x - box[3 * kWidth]), 0.0f);
    const float y = fmaxf(fmaxf(box[1 * kWidth] - p.y, p.y - box[4 * kWidth]), 0.0f);
    const float z = fmaxf(fmaxf(box[2 * kWidth] - p.z, p.z - box[5 * kWidth]), 0.0f);
    // The differences are rounded to float32, by less than 1e-6 of the value: the factor keeps the bound a lower one.
    // Squared in double, because a point at 1e30 must still find its answer.
    return (double(x) * x + double(y) * y + double(z) * z) * 0.999999;
  }

  // Calls at_triangle(slot) for the triangles of every leaf whose box is nearer than best(), nearest boxes first.
  template <typename Best, typename AtTriangle>
  PIM_HOST_DEVICE void visit_nearest(Vec3f p, const Best& best, const AtTriangle& at_triangle) const {
    struct Waiting {
      double distance_squared;
      int32_t link;
    } stack[kStackSize];
    int waiting = 0;
    stack[waiting++] = {0, 0};
    while (waiting > 0) {
      const Waiting top = stack[--waiting];
      if (!(top.distance_squared < best())) continue;
      if (top.link < 0) {
        const int64_t leaf = ~top.link;
        for (int64_t slot = leaf_first[leaf]; slot < leaf_first[leaf + 1]; ++slot) at_triangle(slot);
        continue;
      }
      const int bottom = waiting;
      for (int child = 0; child < kWidth; ++child) {
        const int32_t link = links[kWidth * int64_t(top.link) + child];
        if (link == kNoChild) continue;
        const double squared = box_distance_squared(top.link, child, p);
        if (!(squared < best())) continue;
        int place = waiting++;  // insertion keeps the nearest child on top
        for (; place > bottom && stack[place - 1].distance_squared < squared; --place) stack[place] = stack[place - 1];
        stack[place] = {squared, link};
      }
    }
  }
};

}  // namespace pyimplicit
