// Outward normals of a closed surface's edges and corners, four bytes each: the nearest feature's normal tells inside
// from outside. A face's own normal is that of its corners.
// Source: Baerentzen and Aanaes, "Signed Distance Computation Using the Angle Weighted Pseudonormal", 2005.
#pragma once

#include "base/vec3.h"

namespace pyimplicit {

constexpr int kPacked = 6;  // of each face: edges ab, bc, ca, corners a, b, c; at Feature - 1

// Where rounding could take one side for the other. All six of a face say so if its own normal cannot be relied on.
constexpr int32_t kUnsure = int32_t(0x80008000u);

// Cosines that packing may be off by, with room to spare.
constexpr double kPackingError = 1e-4;

// A direction folded onto the square [-1, 1]^2, 16 bits a coordinate; zero becomes kUnsure.
// Source: Cigolle et al., "A Survey of Efficient Representations for Independent Unit Vectors", JCGT 2014, section 2.
PIM_HOST_DEVICE inline int32_t pack_direction(Vec3d n) {
  const double sum = std::fabs(n.x) + std::fabs(n.y) + std::fabs(n.z);
  if (!(sum > 0)) return kUnsure;
  double u = n.x / sum, v = n.y / sum;
  if (n.z < 0) {
    const double unfolded = u;
    u = std::copysign(1 - std::fabs(v), u);
    v = std::copysign(1 - std::fabs(unfolded), v);
  }
  const auto bits = [](double x) { return (uint32_t(x * 32767 + 32768.5) - 32768u) & 0xFFFFu; };
  return int32_t(bits(u) | bits(v) << 16);
}

// The unit vector again.
PIM_HOST_DEVICE inline Vec3d unpack_direction(int32_t packed) {
  double u = int16_t(packed & 0xFFFF) / 32767.0, v = int16_t(uint32_t(packed) >> 16) / 32767.0;
  const double z = 1 - std::fabs(u) - std::fabs(v);
  if (z < 0) {
    const double folded = u;
    u = std::copysign(1 - std::fabs(v), u);
    v = std::copysign(1 - std::fabs(folded), v);
  }
  const Vec3d n = {u, v, z};
  return (1 / length(n)) * n;
}

}  // namespace pyimplicit
