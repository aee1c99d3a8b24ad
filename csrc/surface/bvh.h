// An eight-wide bounding volume hierarchy over triangles: its layout and its plain traversal, for CPU and GPU.
//
// Everything is in coordinates of its own: relative to the middle of the mesh's bounding box, and times a power of two
// that makes the largest coordinate at least a half and below one. So float32 keeps its precision for a mesh far from the
// origin, and its range for meshes of any size. Eight children stand side by side in structure-of-arrays order, one SIMD register each.
#pragma once

#include "surface/triangle.h"

namespace pyimplicit {

constexpr int kWidth = 8;         // children of a node, and most triangles of a leaf
constexpr int kMostDepth = 24;    // levels of the tree; the builder halves by count where it would pass this
constexpr int kStackSize = kMostDepth * (kWidth - 1) + kWidth;
constexpr int kBoxSize = 8;       // rows of a node's boxes
constexpr int kMomentSize = 13;   // center 3, area normal 3, second moment xx yy zz xy yz zx, radius 1
constexpr int kFrameValues = 14;  // corner 3, x axis 3, normal 3, b.x, c.x, c.y, 1 / |ac|^2, 1 / |bc|^2
constexpr int kFrameSize = 15;    // and a row for the leaf itself: see Neighbourhood
constexpr int32_t kNoChild = INT32_MIN;

// Where a search of the SIMD twin that has begun at a leaf may go on: a ball within the one of `reach` around `center`
// touches nothing that is not below `node`. A negative reach holds no ball. Stands behind the frames of the leaf.
struct Neighbourhood {
  float center[3];
  float reach;
  int32_t node;
  int32_t unused[3];
};
static_assert(sizeof(Neighbourhood) == kWidth * sizeof(float), "a row of frames");

struct Bvh {
  const float* boxes;         // [M, 8, 8] of each child the smallest, then the largest coordinates along the node's
                              // axes (none: empty); then the axes as a matrix, three columns of four numbers
  const int32_t* links;       // [M, 8] inner node >= 0, leaf ~leaf < 0, or kNoChild
  const float* moments;       // [M, 13, 8] of each child
  const int32_t* leaf_first;  // [L + 1] first triangle of each leaf
  const float* frames;        // [L, 15, 8] triangles in frames of their own, for the SIMD twin; lanes padded
  const float* triangles;     // [F, 9] corners a, b, c in leaf order
  const int32_t* triangle_face;  // [F] face of the mesh at each leaf slot
  const double* center;          // [3] mesh units
  double scale;                  // a power of two

  // From mesh units to the hierarchy's own coordinates, and back.
  PIM_HOST_DEVICE Vec3d local(Vec3d p) const { return scale * (p - load3(center, 0)); }
  PIM_HOST_DEVICE Vec3d global(Vec3d p) const { return (1 / scale) * p + load3(center, 0); }

  PIM_HOST_DEVICE Vec3d corner(int64_t slot, int which) const { return Vec3d(load3(triangles, 3 * slot + which)); }

  // A point's coordinates along a node's axes.
  PIM_HOST_DEVICE Vec3f along_axes(int64_t node, Vec3f p) const {
    const float* m = boxes + kBoxSize * kWidth * node + 6 * kWidth;
    return {m[0] * p.x + m[4] * p.y + m[8] * p.z, m[1] * p.x + m[5] * p.y + m[9] * p.z,
            m[2] * p.x + m[6] * p.y + m[10] * p.z};
  }

  // Squared distance from a point to a child's box, both along the node's axes; see `cutoff` for its rounding.
  PIM_HOST_DEVICE float box_distance_squared(int64_t node, int child, Vec3f p) const {
    const float* box = boxes + kBoxSize * kWidth * node + child;
    const float x = fmaxf(fmaxf(box[0 * kWidth] - p.x, p.x - box[3 * kWidth]), 0.0f);
    const float y = fmaxf(fmaxf(box[1 * kWidth] - p.y, p.y - box[4 * kWidth]), 0.0f);
    const float z = fmaxf(fmaxf(box[2 * kWidth] - p.z, p.z - box[5 * kWidth]), 0.0f);
    return x * x + y * y + z * z;
  }

  // Calls at_triangle(slot) for the triangles of every leaf whose box may hold something nearer than `best()`, the
  // squared distance found so far. Coordinates of p below 1e18, whose squares float32 holds.
  template <typename Best, typename AtTriangle>
  PIM_HOST_DEVICE void visit_nearest(Vec3f p, const Best& best, const AtTriangle& at_triangle) const {
    struct Waiting {
      float distance_squared;
      int32_t link;
    } stack[kStackSize];
    const double off = rounding(largest_of(p));
    float limit = float(cutoff(best(), off));
    int waiting = 0;
    stack[waiting++] = {0, 0};
    while (waiting > 0) {
      const Waiting top = stack[--waiting];
      if (!(top.distance_squared < limit)) continue;
      if (top.link < 0) {
        const int64_t leaf = ~top.link;
        for (int64_t slot = leaf_first[leaf]; slot < leaf_first[leaf + 1]; ++slot) at_triangle(slot);
        limit = float(cutoff(best(), off));
        continue;
      }
      const Vec3f turned = along_axes(top.link, p);
      const int bottom = waiting;
      for (int child = 0; child < kWidth; ++child) {
        const int32_t link = links[kWidth * int64_t(top.link) + child];
        if (link == kNoChild) continue;
        const float squared = box_distance_squared(top.link, child, turned);
        if (!(squared < limit)) continue;
        int place = waiting++;  // insertion keeps the nearest child on top
        for (; place > bottom && stack[place - 1].distance_squared < squared; --place) stack[place] = stack[place - 1];
        stack[place] = {squared, link};
      }
    }
  }

  // A box is left out only if it is farther away than this squared distance. Boxes, axes and points are rounded to
  // float32, and so are leaves; no distance is off by more than `rounding`, and the cutoff allows for it. So the nearest
  // triangle is never missed, and since the minimum over all leaves that matter does not depend on the way to it, nor
  // does the answer, to the last bit.
  template <typename T>
  PIM_HOST_DEVICE static T cutoff(T squared, T rounding) {
    const T distance = std::sqrt(squared) + rounding;
    return distance * distance;
  }

  PIM_HOST_DEVICE static double rounding(double largest_coordinate) { return 2e-6 * (largest_coordinate + 1); }

  PIM_HOST_DEVICE static double largest_of(Vec3f p) {
    const float x = std::fabs(p.x), y = std::fabs(p.y), z = std::fabs(p.z);
    const float xy = x > y ? x : y;
    return xy > z ? xy : z;
  }
};

}  // namespace pyimplicit
