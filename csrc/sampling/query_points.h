// Query points of several shapes in one pass: uniform in a cube, and area-uniform on a surface with or without noise.
#pragma once

#include "sampling/random.h"
#include "sampling/surface_samples.h"
#include "surface/surface_batch.h"

namespace pyimplicit {

// Each row of a batch has the random numbers of its own shape and step, whatever the other rows are.
struct RowStreams {
  const int64_t* keys;  // [B, 2] shape, step
  uint64_t seed;

  PIM_HOST_DEVICE RandomStream of(int64_t row, uint32_t purpose) const {
    return {seed, uint32_t(keys[2 * row]), uint32_t(keys[2 * row + 1]), purpose};
  }
};

// A part of each row that is drawn in one way. A surface's points take their noise from the next purpose.
struct PointSource {
  int64_t first;    // point of the row
  int64_t purpose;  // of its random numbers
  double sigma;     // standard deviation of the noise, mesh units; 0 for none, negative for uniform in the cube
};

constexpr int kMostSources = 16;

struct PointSources {
  int64_t count;
  PointSource of[kMostSources];
};

struct DrawQueryPoints {
  SurfaceTable table;
  const AliasEntry* areas;  // of all triangles, in the order of the table's
  const int64_t* shapes;    // [B] entries of the table
  RowStreams streams;
  int64_t each;  // N
  PointSources sources;
  float half_side;  // of the cube, mesh units
  // outputs
  float* points;  // [B, N, 3] mesh units
  int64_t* face;  // [B, N] face of the mesh that a point was drawn on, -1 for none; or null
  int32_t* leaf;  // [B, N] leaf of that triangle, -1 for none; or null. The CPU's twin writes it

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t row = i / each, j = i % each;
    int64_t k = 0;
    while (k + 1 < sources.count && j >= sources.of[k + 1].first) ++k;
    const PointSource source = sources.of[k];
    const int64_t index = j - source.first;
    const RandomStream stream = streams.of(row, uint32_t(source.purpose));
    if (source.sigma < 0) {
      if (face != nullptr) face[i] = -1;
      return Uniform<float>{stream, -half_side, half_side, points + 3 * (i - index)}(index);
    }
    const SurfaceEntry& e = table.entries[shapes[row]];
    const Words4 words = stream.words(index);
    const int64_t triangle = pick(areas + e.triangle, e.triangles, words.w[0], words.w[1]);
    const Bvh bvh = table.bvh(e);
    const Vec3d a = bvh.corner(triangle, 0), b = bvh.corner(triangle, 1), c = bvh.corner(triangle, 2);
    Vec3d point = bvh.global(even_point(words, a, b, c));
    if (source.sigma > 0) {
      const Vec3d noise = normal3(streams.of(row, uint32_t(source.purpose) + 1).words(index));
      point = add_rounded(point, scale_rounded(source.sigma, noise));
    }
    store3(points, i, Vec3f(point));
    if (face != nullptr) face[i] = bvh.triangle_face[triangle];
  }
};

}  // namespace pyimplicit
