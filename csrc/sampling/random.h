// Uniform and normal numbers, counter-based (philox.h).
#pragma once

#include <cmath>

#include "base/normal.h"
#include "base/philox.h"
#include "base/vec3.h"

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
      const T value = add_rounded(low, mul_rounded(unit, high - low));
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

}  // namespace pyimplicit
