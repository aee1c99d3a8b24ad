// Points distributed evenly over the area of a triangle mesh.
//
// Sums and products are rounded one by one, so that CPU and GPU draw the same points to the last bit.
#pragma once

#include "base/philox.h"
#include "base/vec3.h"
#include "sampling/alias_table.h"

namespace pyimplicit {

// Source: Osada et al., "Shape Distributions", TOG 2002, section 4.2 (square-root barycentric coordinates).
PIM_HOST_DEVICE inline Vec3d even_point(Words4 words, Vec3d a, Vec3d b, Vec3d c) {
  const double root = std::sqrt(open_uniform(words.w[2])), second = open_uniform(words.w[3]);
  const Vec3d step = scale_rounded(mul_rounded(root, 1 - second), b - a);
  const Vec3d side = scale_rounded(mul_rounded(root, second), c - a);
  return add_rounded(add_rounded(a, step), side);
}

struct TriangleAreas {
  const float* corners;  // [F, 9]
  // outputs
  double* areas;  // [F]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Vec3d a = Vec3d(load3(corners, 3 * i));
    const Vec3d normal = cross(Vec3d(load3(corners, 3 * i + 1)) - a, Vec3d(load3(corners, 3 * i + 2)) - a);
    areas[i] = std::sqrt(dot(normal, normal)) / 2;
  }
};

struct SampleSurface {
  const float* vertices;    // [V, 3]
  const int32_t* faces;     // [F, 3]
  const AliasEntry* areas;  // [F]
  int64_t face_count;
  RandomStream stream;
  // outputs
  float* points;    // [N, 3]
  int64_t* chosen;  // [N] face of each point

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Words4 words = stream.words(i);
    const int64_t face = pick(areas, face_count, words.w[0], words.w[1]);
    const auto corner = [&](int k) { return Vec3d(load3(vertices, faces[3 * face + k])); };
    store3(points, i, Vec3f(even_point(words, corner(0), corner(1), corner(2))));
    chosen[i] = face;
  }
};

}  // namespace pyimplicit
