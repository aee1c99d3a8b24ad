// Outward normals of a closed surface's edges and corners, four bytes each: the nearest feature's normal tells inside
// from outside. A face's own normal is that of its corners.
// Source: Baerentzen and Aanaes, "Signed Distance Computation Using the Angle Weighted Pseudonormal", 2005.
#pragma once

#include "base/vec3.h"

namespace pyimplicit {

constexpr int kPacked = 6;  // of each face: edges ab, bc, ca, corners a, b, c; at Feature - 1

// Where rounding could take one side for the other. All six of a face say so if its own normal cannot be relied on.
constexpr int32_t kUnsure = int32_t(0x80008000u);

// What is known of a leaf's faces, packed into 32 bits, a bit for each of the eight: which of them there are, whose
// normals can be relied on, and which are gentle.
//
// A gentle face can be relied on, and so can its plane alone for points that are nearest to its edges and corners. All
// faces that share a corner with it can be relied on, too, are within kGentleAngle of it, one sheet, and no narrower than
// kGentleRoom: around it the surface is the graph of a function over its plane, whose slope is at most tan kGentleAngle.
// Let p be at distance d >= kGentleFar r from the nearest point e of the face, where r is what distances may be off by
// (Bvh::rounding), and no point of the surface nearer to p than d - 2 r. Then the direction from e to p leans against no
// path on the surface by more than the sine 2 sqrt(r / d) <= 1/4, that is 15 degrees. One of the paths from e runs below
// or above that direction, at a slope of at most kGentleAngle. So p is at least 75 - 35 = 40 degrees above the plane or
// below it, more than any path, and above or below the graph likewise. A height of less than kGentleHeight d, 30 degrees,
// contradicts all this and is left to others.
struct LeafSides {
  uint32_t bits;

  PIM_HOST_DEVICE unsigned held() const { return bits & 0xFF; }
  PIM_HOST_DEVICE unsigned sure() const { return bits >> 8 & 0xFF; }
  PIM_HOST_DEVICE unsigned gentle() const { return bits >> 16 & 0xFF; }
};

constexpr double kGentleAngle = 35;     // degrees
constexpr double kGentleFar = 64;       // in units of what distances may be off by
constexpr double kGentleHeight = 0.5;   // of the distance: the sine of 30 degrees
constexpr double kGentleRoom = 5.2e-4;  // of a triangle's least height, 128 times Bvh::rounding(1)

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
