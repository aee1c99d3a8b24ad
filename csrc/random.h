// Uniform and normal numbers, and points drawn area-uniformly from a surface, all counter-based (philox.h).
#pragma once

#include <cmath>

#include "normal.h"
#include "philox.h"
#include "vec3.h"

namespace pyimplicit {

template <typename T>
struct Uniform {
  RandomStream stream;
  T low, high;
  // outputs
  T* values;  // [N, 3] in [low, high)

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Words4 words = stream.words(i);
    for (int axis = 0; axis < 3; ++axis) {
      // 24 bits: exact in float32, so a float32 draw can never round up to 1.
      const T unit = T(words.w[axis] >> 8) * T(5.9604644775390625e-8);
      const T value = low + unit * (high - low);
      // Away from 0 the sum itself can round up to `high`.
      values[3 * i + axis] = value < high ? value : std::nextafter(high, low);
    }
  }
};

template <typename T>
struct Normal {
  RandomStream stream;
  // outputs
  T* values;  // [N, 3] mean 0, standard deviation 1

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    store3(values, i, Vec3<T>(normal3(stream.words(i))));
  }
};

// First index whose cumulative weight exceeds `target`; entries of no weight are never returned, because their
// cumulative value equals the one before.
PIM_HOST_DEVICE inline int64_t pick(const double* cumulative, int64_t count, double target) {
  int64_t low = 0, high = count - 1;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (cumulative[middle] > target) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// Points distributed evenly over the area of a triangle mesh.
// Source: Osada et al., "Shape Distributions", TOG 2002, section 4.2 (square-root barycentric coordinates).
struct SampleSurface {
  const float* vertices;     // [V, 3]
  const int32_t* faces;      // [F, 3]
  const double* cumulative;  // [F] running sum of the areas
  int64_t face_count;
  RandomStream stream;
  // outputs
  float* points;    // [N, 3]
  int64_t* chosen;  // [N] face of each point

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Words4 words = stream.words(i);
    const double total = cumulative[face_count - 1];
    const int64_t face = pick(cumulative, face_count, uniform53(words.w[0], words.w[1]) * total);
    const double root = std::sqrt(open_uniform(words.w[2])), second = open_uniform(words.w[3]);
    const Vec3d a = Vec3d(load3(vertices, faces[3 * face])), b = Vec3d(load3(vertices, faces[3 * face + 1])),
                c = Vec3d(load3(vertices, faces[3 * face + 2]));
    store3(points, i, Vec3f(a + (root * (1 - second)) * (b - a) + (root * second) * (c - a)));
    chosen[i] = face;
  }
};

}  // namespace pyimplicit
