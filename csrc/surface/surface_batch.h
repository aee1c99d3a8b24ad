// Surface queries for several meshes in one call: points [B, N, 3], each row of them for a surface of its own.
#pragma once

#include "surface/surface.h"

namespace pyimplicit {

// One surface of several whose arrays lie one behind the other: where its own begin. A row of a table that Python
// fills, eight bytes a member; -1 for an array that it does not have.
struct SurfaceEntry {
  int64_t node, leaf, leaf_first, triangle, start_leaf, start_distance, pseudonormal;
  int64_t triangles;  // how many
  int64_t start_resolution;
  int64_t sign_method;  // of signed queries
  int64_t inherit;
  double scale, start_half_side;
  double center[3];
};

// The arrays of several hierarchies, each kind one behind the other; see Bvh and StartGrid for what they hold.
struct SurfaceTable {
  const SurfaceEntry* entries;  // [S]
  const float* boxes;
  const int32_t* links;  // relative to the surface's own nodes and leaves
  const float* moments;
  const int32_t* leaf_first;  // relative to the surface's own triangles
  const float* frames;
  const float* triangles;
  const int32_t* triangle_face;
  const int32_t* triangle_leaf;  // relative to the surface's own leaves
  const int32_t* start_leaf;
  const float* start_distance;
  const int32_t* pseudonormals;
  const int32_t* leaf_sides;

  PIM_HOST_DEVICE Bvh bvh(const SurfaceEntry& e) const {
    return {boxes + kBoxSize * kWidth * e.node,
            links + kWidth * e.node,
            moments + kMomentSize * kWidth * e.node,
            leaf_first + e.leaf_first,
            frames + kFrameSize * kWidth * e.leaf,
            triangles + 9 * e.triangle,
            triangle_face + e.triangle,
            e.center,
            e.scale};
  }

  PIM_HOST_DEVICE StartGrid start(const SurfaceEntry& e, bool with_sign) const {
    return {e.start_leaf < 0 ? nullptr : start_leaf + e.start_leaf,
            e.start_distance < 0 || !with_sign ? nullptr : start_distance + e.start_distance,
            int32_t(e.start_resolution), float(e.start_half_side)};
  }
};

template <typename T>
struct SurfaceBatchQuery {
  const T* points;  // [B, N, 3] mesh units
  SurfaceTable table;
  const int64_t* shapes;  // [B] entries of the table
  int64_t each;           // N
  bool with_sign;
  // outputs
  T* distance;     // [B, N]
  T* closest;      // [B, N, 3], or null
  int32_t* slot;   // [B, N], or null
  int64_t* face;   // [B, N], or null
  T* barycentric;  // [B, N, 3], or null

  // The queries of one row.
  PIM_HOST_DEVICE SurfaceQuery<T> row(int64_t b) const {
    const SurfaceEntry& e = table.entries[shapes[b]];
    const int64_t first = b * each;
    const bool full = closest != nullptr;
    return {points + 3 * first,
            nullptr,
            nullptr,
            table.bvh(e),
            table.start(e, with_sign),
            with_sign ? SignMethod(int(e.sign_method)) : SignMethod::kNone,
            e.pseudonormal < 0 ? nullptr : table.pseudonormals + kPacked * e.pseudonormal,
            table.leaf_sides + e.leaf,
            e.inherit != 0,
            distance + first,
            full ? closest + 3 * first : nullptr,
            full ? slot + first : nullptr,
            full ? face + first : nullptr,
            full ? barycentric + 3 * first : nullptr};
  }

  PIM_HOST_DEVICE void operator()(int64_t i) const { row(i / each).answer(i % each); }
};

// Corners of the triangles that a batch of queries named.
struct GatherCorners {
  const SurfaceEntry* entries;  // [S]
  const float* triangles;       // of all surfaces
  const int64_t* shapes;        // [B]
  const int32_t* slot;          // [B, N]
  int64_t each;                 // N
  // outputs
  float* corners;  // [B, N, 9]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const float* triangle = triangles + 9 * (entries[shapes[i / each]].triangle + slot[i]);
    for (int k = 0; k < 9; ++k) corners[9 * i + k] = triangle[k];
  }
};

}  // namespace pyimplicit
