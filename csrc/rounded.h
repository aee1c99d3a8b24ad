// Sums and products that are rounded one by one on every processor: nvcc would fuse a * b + c, and the last
// bit would differ from the CPU's.
#pragma once

#include "vec3.h"

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

PIM_HOST_DEVICE inline Vec3d add_rounded(Vec3d a, Vec3d b) {
  return {add_rounded(a.x, b.x), add_rounded(a.y, b.y), add_rounded(a.z, b.z)};
}

PIM_HOST_DEVICE inline double squared_length_rounded(Vec3d a) {
  return add_rounded(add_rounded(mul_rounded(a.x, a.x), mul_rounded(a.y, a.y)), mul_rounded(a.z, a.z));
}

PIM_HOST_DEVICE inline Vec3d scale_rounded(double s, Vec3d a) {
  return {mul_rounded(s, a.x), mul_rounded(s, a.y), mul_rounded(s, a.z)};
}

}  // namespace pyimplicit
