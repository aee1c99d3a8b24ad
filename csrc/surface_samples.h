// Points distributed evenly over the area of a triangle mesh.
// Source: Osada et al., "Shape Distributions", TOG 2002, section 4.2 (square-root barycentric coordinates).
//
// Sums and products are rounded one by one, so that CPU and GPU draw the same points to the last bit.
#pragma once

#include "philox.h"
#include "rounded.h"

namespace pyimplicit {

// Normal of a triangle, twice its area long.
PIM_HOST_DEVICE inline Vec3d cross_rounded(Vec3d a, Vec3d b) {
  const auto minor_of = [](double p, double q, double r, double s) {
    return add_rounded(mul_rounded(p, q), -mul_rounded(r, s));
  };
  return {minor_of(a.y, b.z, a.z, b.y), minor_of(a.z, b.x, a.x, b.z), minor_of(a.x, b.y, a.y, b.x)};
}

struct FaceAreas {
  const float* vertices;  // [V, 3]
  const int32_t* faces;   // [F, 3]
  int64_t vertex_count;
  // outputs
  double* areas;  // [F] NaN for a face with an index out of range

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    for (int corner = 0; corner < 3; ++corner) {
      const int32_t index = faces[3 * i + corner];
      if (index < 0 || index >= vertex_count) {
        areas[i] = NAN;
        return;
      }
    }
    const Vec3d a = Vec3d(load3(vertices, faces[3 * i]));
    const Vec3d normal = cross_rounded(Vec3d(load3(vertices, faces[3 * i + 1])) - a,
                                       Vec3d(load3(vertices, faces[3 * i + 2])) - a);
    areas[i] = std::sqrt(squared_length_rounded(normal)) / 2;
  }
};

// Running sums of areas, and where to start looking in them: guide[k] is the first face whose sum exceeds k / entries
// of the whole. On average one or two faces are looked at.
// Source: Chen and Asau, "On Generating Random Variates from an Empirical Distribution", 1974.
struct AreaGuide {
  const double* cumulative;  // [F]
  const int32_t* guide;      // [entries]
  int64_t faces, entries;

  // The first face whose sum exceeds `unit` (in [0, 1)) of the whole: never one without area.
  PIM_HOST_DEVICE int64_t pick(double unit) const {
    const double target = mul_rounded(unit, cumulative[faces - 1]);
    int64_t face = guide[int64_t(unit * double(entries))];
    while (face > 0 && cumulative[face - 1] > target) --face;  // rounding put it too far
    while (face < faces - 1 && !(cumulative[face] > target)) ++face;
    return face;
  }
};

// In place: areas become their running sums.
inline void fill_area_guide(double* areas, int64_t faces, int32_t* guide, int64_t entries) {
  double sum = 0;
  for (int64_t i = 0; i < faces; ++i) areas[i] = sum += areas[i];
  int64_t face = 0;
  const double step = sum / double(entries);
  for (int64_t k = 0; k < entries; ++k) {
    while (face < faces - 1 && !(areas[face] > double(k) * step)) ++face;
    guide[k] = int32_t(face);
  }
}

struct SampleSurface {
  const float* vertices;  // [V, 3]
  const int32_t* faces;   // [F, 3]
  AreaGuide table;
  RandomStream stream;
  // outputs
  float* points;    // [N, 3]
  int64_t* chosen;  // [N] face of each point
  float* normals;   // [N, 3] unit normals of the faces; may be null

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Words4 words = stream.words(i);
    const int64_t face = table.pick(uniform53(words.w[0], words.w[1]));
    const double root = std::sqrt(open_uniform(words.w[2])), second = open_uniform(words.w[3]);
    const Vec3d a = Vec3d(load3(vertices, faces[3 * face]));
    const Vec3d ab = Vec3d(load3(vertices, faces[3 * face + 1])) - a;
    const Vec3d ac = Vec3d(load3(vertices, faces[3 * face + 2])) - a;
    const Vec3d step = scale_rounded(mul_rounded(root, 1 - second), ab), side = scale_rounded(mul_rounded(root, second), ac);
    store3(points, i, Vec3f{float(add_rounded(add_rounded(a.x, step.x), side.x)),
                            float(add_rounded(add_rounded(a.y, step.y), side.y)),
                            float(add_rounded(add_rounded(a.z, step.z), side.z))});
    chosen[i] = face;
    if (normals == nullptr) return;
    const Vec3d normal = cross_rounded(ab, ac);
    const double size = std::sqrt(squared_length_rounded(normal));
    store3(normals, i, Vec3f(scale_rounded(size > 0 ? 1 / size : 0.0, normal)));
  }
};

}  // namespace pyimplicit
