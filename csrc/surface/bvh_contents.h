// What the leaves and nodes of a hierarchy hold: triangles in frames of their own, moments, and boxes along axes that
// fit the surface below.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "surface/bvh.h"

namespace pyimplicit::build {

typedef float F4 __attribute__((vector_size(16)));  // SSE or NEON, always there

inline F4 low_of(F4 a, F4 b) { return a < b ? a : b; }
inline F4 high_of(F4 a, F4 b) { return a > b ? a : b; }

struct Box {
  F4 low = F4{} + std::numeric_limits<float>::infinity(), high = F4{} - std::numeric_limits<float>::infinity();

  void add(const Box& other) {
    low = low_of(low, other.low);
    high = high_of(high, other.high);
  }
  void add(F4 point) {
    low = low_of(low, point);
    high = high_of(high, point);
  }
  float half_area() const {
    const F4 side = high - low;
    return side[0] < 0 ? 0.0f : side[0] * side[1] + side[1] * side[2] + side[2] * side[0];
  }
};

// The triangle in an orthonormal frame of its own: origin at a corner, x along the longest edge, z normal. Made in
// double: with float32 corners alone a sliver of aspect 1e4 would be off by 5e-4 of its size.
inline void write_frame(const float* corners, float* frame) {
  Vec3d corner[3] = {Vec3d(load3(corners, 0)), Vec3d(load3(corners, 1)), Vec3d(load3(corners, 2))};
  int start = 0;
  double longest = -1;
  for (int i = 0; i < 3; ++i) {
    const Vec3d edge = corner[(i + 1) % 3] - corner[i];
    if (dot(edge, edge) > longest) longest = dot(edge, edge), start = i;
  }
  const Vec3d a = corner[start], ab = corner[(start + 1) % 3] - a, ac = corner[(start + 2) % 3] - a;
  const auto unit = [](Vec3d v, Vec3d otherwise) { return dot(v, v) > 0 ? (1 / length(v)) * v : otherwise; };
  const Vec3d x = unit(ab, {1, 0, 0});
  const Vec3d across = std::abs(x.x) < 0.5 ? Vec3d{1, 0, 0} : Vec3d{0, 1, 0};
  const Vec3d z = unit(cross(ab, ac), unit(cross(x, across), {0, 0, 1})), y = cross(z, x);
  const double bx = length(ab), cx = dot(ac, x), cy = dot(ac, y), ux = cx - bx;
  const auto inverse = [](double squared) { return squared > 0 ? 1 / squared : 0.0; };
  const double values[kFrameValues] = {a.x, a.y, a.z, x.x, x.y, x.z, z.x, z.y, z.z, bx, cx, cy,
                                       inverse(cx * cx + cy * cy), inverse(ux * ux + cy * cy)};
  // A reciprocal beyond float32 belongs to an edge shorter than 1e-19: a point.
  for (int i = 0; i < kFrameValues; ++i) frame[i * kWidth] = std::isfinite(float(values[i])) ? float(values[i]) : 0.0f;
}

// What a set of triangles looks like from far away, and how it is spread.
// Source: Barill et al., "Fast Winding Numbers for Soups and Clouds", SIGGRAPH 2018, section 3.1.
struct Moments {
  double area = 0;
  Vec3d weighted_center = {0, 0, 0};  // sum of area times centroid
  Vec3d normal = {0, 0, 0};           // sum of area times unit normal
  double second[3][3] = {};           // sum of centroid times area normal, about the origin
  double spread[6] = {};              // integral over the area of xx, yy, zz, xy, xz, yz

  void add(const Moments& other) {
    area += other.area;
    weighted_center = weighted_center + other.weighted_center;
    normal = normal + other.normal;
    for (int i = 0; i < 9; ++i) second[i / 3][i % 3] += other.second[i / 3][i % 3];
    for (int i = 0; i < 6; ++i) spread[i] += other.spread[i];
  }

  void add_triangle(const float* corners) {
    const Vec3d a = Vec3d(load3(corners, 0)), b = Vec3d(load3(corners, 1)), c = Vec3d(load3(corners, 2));
    const Vec3d area_normal = 0.5 * cross(b - a, c - a), sum = a + b + c, centroid = (1.0 / 3.0) * sum;
    const double from[3] = {centroid.x, centroid.y, centroid.z}, n[3] = {area_normal.x, area_normal.y, area_normal.z};
    const double size = length(area_normal);
    area += size;
    weighted_center = weighted_center + size * centroid;
    normal = normal + area_normal;
    for (int i = 0; i < 9; ++i) second[i / 3][i % 3] += from[i / 3] * n[i % 3];
    // The integral of x y over a triangle is its area / 12 times (sum x sum y + the corners' products).
    const double twelfth = size / 12;
    spread[0] += twelfth * (sum.x * sum.x + a.x * a.x + b.x * b.x + c.x * c.x);
    spread[1] += twelfth * (sum.y * sum.y + a.y * a.y + b.y * b.y + c.y * c.y);
    spread[2] += twelfth * (sum.z * sum.z + a.z * a.z + b.z * b.z + c.z * c.z);
    spread[3] += twelfth * (sum.x * sum.y + a.x * a.y + b.x * b.y + c.x * c.y);
    spread[4] += twelfth * (sum.x * sum.z + a.x * a.z + b.x * b.z + c.x * c.z);
    spread[5] += twelfth * (sum.y * sum.z + a.y * a.z + b.y * b.z + c.y * c.z);
  }

  // As Bvh::moments.
  void pack(const Box& box, float* packed) const {
    const Vec3d low = {box.low[0], box.low[1], box.low[2]}, high = {box.high[0], box.high[1], box.high[2]};
    const Vec3d center = area > 0 ? (1 / area) * weighted_center : 0.5 * (low + high);
    const double from[3] = {center.x, center.y, center.z}, n[3] = {normal.x, normal.y, normal.z};
    const Vec3d reach = {std::max(high.x - center.x, center.x - low.x), std::max(high.y - center.y, center.y - low.y),
                         std::max(high.z - center.z, center.z - low.z)};
    store3(packed, 0, Vec3f(center));
    store3(packed, 1, Vec3f(normal));
    // Along a unit vector u the second moment S counts by trace S - 3 u S u: one symmetric matrix.
    double about[3][3], trace = 0;
    for (int i = 0; i < 9; ++i) about[i / 3][i % 3] = second[i / 3][i % 3] - from[i / 3] * n[i % 3];
    for (int i = 0; i < 3; ++i) trace += about[i][i];
    for (int i = 0; i < 3; ++i) {
      const int j = i == 2 ? 0 : i + 1;
      packed[6 + i] = float(trace - 3 * about[i][i]);
      packed[9 + i] = float(-3 * (about[i][j] + about[j][i]));  // both places: xy, yz, zx
    }
    packed[12] = float(length(reach));
  }
};

// Three orthonormal axes, as the columns of the matrix that takes a point to its coordinates along them.
struct Axes {
  F4 column[3] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}};

  F4 along(const float* point) const {
    return point[0] * column[0] + point[1] * column[1] + point[2] * column[2];
  }
};

// The principal axes of a set of triangles: the eigenvectors of its spread about its center, by Jacobi's rotations.
// Source: Golub and van Loan, "Matrix Computations", section 8.5.
inline Axes principal_axes(const Moments& sum) {
  Axes axes;
  if (!(sum.area > 0)) return axes;
  const Vec3d c = (1 / sum.area) * sum.weighted_center;
  double m[3][3] = {};
  m[0][0] = sum.spread[0] / sum.area - c.x * c.x;
  m[1][1] = sum.spread[1] / sum.area - c.y * c.y;
  m[2][2] = sum.spread[2] / sum.area - c.z * c.z;
  m[0][1] = m[1][0] = sum.spread[3] / sum.area - c.x * c.y;
  m[0][2] = m[2][0] = sum.spread[4] / sum.area - c.x * c.z;
  m[1][2] = m[2][1] = sum.spread[5] / sum.area - c.y * c.z;
  double v[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};  // columns become the eigenvectors
  for (int sweep = 0; sweep < 6; ++sweep) {
    for (int turn = 0; turn < 3; ++turn) {
      const int p = turn == 2 ? 1 : 0, q = turn == 0 ? 1 : 2;
      if (m[p][q] == 0) continue;
      const double theta = (m[q][q] - m[p][p]) / (2 * m[p][q]);
      const double t = (theta < 0 ? -1 : 1) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
      const double cosine = 1 / std::sqrt(t * t + 1), sine = t * cosine;
      for (int k = 0; k < 3; ++k) {
        const double left = m[k][p], right = m[k][q];
        m[k][p] = cosine * left - sine * right;
        m[k][q] = sine * left + cosine * right;
      }
      for (int k = 0; k < 3; ++k) {
        const double left = m[p][k], right = m[q][k];
        m[p][k] = cosine * left - sine * right;
        m[q][k] = sine * left + cosine * right;
        const double x = v[k][p], y = v[k][q];
        v[k][p] = cosine * x - sine * y;
        v[k][q] = sine * x + cosine * y;
      }
    }
  }
  for (int i = 0; i < 3; ++i) {
    axes.column[i] = F4{float(v[i][0]), float(v[i][1]), float(v[i][2]), 0};
    for (int k = 0; k < 3; ++k) {
      if (!std::isfinite(axes.column[i][k])) return Axes{};  // a mesh near the edge of the number range
    }
  }
  return axes;
}

}  // namespace pyimplicit::build
