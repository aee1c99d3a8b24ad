// One triangle: closest point with the feature it lies on, and solid angle.
#pragma once

#include "base/vec3.h"

namespace pyimplicit {

// Which part of a triangle (a, b, c) a closest point lies on; the order of the pseudonormals.
enum Feature : int { kFace = 0, kEdgeAB = 1, kEdgeBC = 2, kEdgeCA = 3, kVertexA = 4, kVertexB = 5, kVertexC = 6 };

struct TrianglePoint {
  double distance_squared;
  Vec3d point;
  Vec3d barycentric;  // of a, b, c; sums to 1
  Feature feature;
};

// The parameter in [0, 1] of the point of segment (a, a + ab) closest to p; 0 for a segment of no length.
PIM_HOST_DEVICE inline double closest_on_segment(Vec3d p, Vec3d a, Vec3d ab) {
  const double length_squared = dot(ab, ab);
  if (!(length_squared > 0)) return 0;
  const double t = dot(p - a, ab) / length_squared;
  return t <= 0 ? 0 : t >= 1 ? 1 : t;
}

// If p projects into the triangle, its projection; else the nearest of the three edges' closest points. The edges
// also answer for triangles of no area, where a plane does not exist. Double precision: on a sliver of aspect 1e6
// with float32 corners the error stays near 1e-10 of its length.
PIM_HOST_DEVICE inline TrianglePoint closest_point_on_triangle(Vec3d p, Vec3d a, Vec3d b, Vec3d c) {
  const Vec3d ab = b - a, ac = c - a, ap = p - a;
  const Vec3d normal = cross(ab, ac);
  const double normal_squared = dot(normal, normal);
  if (normal_squared > 0) {
    const double v = dot(cross(ap, ac), normal) / normal_squared;
    const double w = dot(cross(ab, ap), normal) / normal_squared;
    if (v > 0 && w > 0 && v + w < 1) {
      const double height = dot(ap, normal) / normal_squared;
      return {height * height * normal_squared, p - height * normal, {1 - v - w, v, w}, kFace};
    }
  }
  TrianglePoint best = {};
  const Vec3d corners[3] = {a, b, c};
  for (int edge = 0; edge < 3; ++edge) {
    const int next = edge == 2 ? 0 : edge + 1;
    const Vec3d start = corners[edge], along = corners[next] - start;
    const double t = closest_on_segment(p, start, along);
    const Vec3d q = t >= 1 ? corners[next] : start + t * along;
    const double d2 = dot(p - q, p - q);
    if (edge > 0 && !(d2 < best.distance_squared)) continue;
    double weights[3] = {0, 0, 0};
    weights[edge] = 1 - t;
    weights[next] = t;
    const int feature = t <= 0 ? kVertexA + edge : t >= 1 ? kVertexA + next : kEdgeAB + edge;
    best = {d2, q, {weights[0], weights[1], weights[2]}, Feature(feature)};
  }
  return best;
}

// Solid angle of a triangle seen from the origin, in steradians, positive from behind its front.
// Source: van Oosterom and Strackee, "The Solid Angle of a Plane Triangle", 1983, equation 8.
PIM_HOST_DEVICE inline double solid_angle(Vec3d a, Vec3d b, Vec3d c) {
  const double la = length(a), lb = length(b), lc = length(c);
  const double determinant = dot(a, cross(b - a, c - a));  // by edges: far away the corners' products would cancel
  const double denominator = la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb;
  // In the triangle's plane the angle jumps from a half sphere on one side to one on the other: the middle is 0.
  return determinant == 0 ? 0 : 2 * std::atan2(determinant, denominator);
}

}  // namespace pyimplicit
