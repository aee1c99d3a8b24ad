// The squared distance of two points with the same rounding everywhere: no fused multiply-add, so that comparisons,
// and with them the indices that come out, are the same on every processor. (The CPU's files that use it are compiled
// without contraction.)
#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace pyimplicit {

PIM_HOST_DEVICE inline float sum_of_squares(float x, float y, float z) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(__fadd_rn(__fmul_rn(x, x), __fmul_rn(y, y)), __fmul_rn(z, z));
#else
  return x * x + y * y + z * z;
#endif
}

PIM_HOST_DEVICE inline double sum_of_squares(double x, double y, double z) {
#if defined(__CUDA_ARCH__)
  return __dadd_rn(__dadd_rn(__dmul_rn(x, x), __dmul_rn(y, y)), __dmul_rn(z, z));
#else
  return x * x + y * y + z * z;
#endif
}

// Of the points a[3] and b[3].
template <typename T>
PIM_HOST_DEVICE inline T squared_distance(const T* a, const T* b) {
  return sum_of_squares(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

}  // namespace pyimplicit
