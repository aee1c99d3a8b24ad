// Sums and products that are rounded one by one on every processor: nvcc would fuse a * b + c, and the last
// bit would differ from the CPU's.
#pragma once

#include "base/host_device.h"

namespace pyimplicit {

#if defined(__CUDA_ARCH__)
PIM_HOST_DEVICE inline double add_rounded(double a, double b) { return __dadd_rn(a, b); }
PIM_HOST_DEVICE inline double mul_rounded(double a, double b) { return __dmul_rn(a, b); }
PIM_HOST_DEVICE inline float add_rounded(float a, float b) { return __fadd_rn(a, b); }
PIM_HOST_DEVICE inline float mul_rounded(float a, float b) { return __fmul_rn(a, b); }
#else
PIM_HOST_DEVICE inline double add_rounded(double a, double b) { return a + b; }
PIM_HOST_DEVICE inline double mul_rounded(double a, double b) { return a * b; }
PIM_HOST_DEVICE inline float add_rounded(float a, float b) { return a + b; }
PIM_HOST_DEVICE inline float mul_rounded(float a, float b) { return a * b; }
#endif

// a b - c d: nothing but the sign changes where the products change places, and equal products leave exactly 0. Fused,
// one of them would go in with more digits than the other.
template <typename T>
PIM_HOST_DEVICE inline T product_difference(T a, T b, T c, T d) {
  return add_rounded(mul_rounded(a, b), -mul_rounded(c, d));
}

}  // namespace pyimplicit
