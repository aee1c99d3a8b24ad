// Surface queries over the hierarchy of bvh.h: closest point (with distance and sign) and winding number.
#pragma once

#include "bvh.h"

namespace pyimplicit {

// Closest point of the surface. NaN in, NaN out (slot -1): the public functions refuse such points beforehand.
template <typename T>
struct ClosestPoint {
  const T* points;            // [N, 3] mesh units
  Bvh bvh;
  const float* pseudonormals;  // [F, 7, 3] by leaf slot and Feature, or null where no sign is asked
  // outputs
  T* distance;        // [N] mesh units, never negative
  T* closest;         // [N, 3]
  int32_t* slot;      // [N] leaf slot of the triangle
  T* barycentric;     // [N, 3]
  T* sign;            // [N] -1 inside, +1 outside or on the surface; +1 without pseudonormals

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Vec3d center = load3(bvh.center, 0);
    const Vec3d p = Vec3d(load3(points, i)) - center;
    TrianglePoint best = {INFINITY, {NAN, NAN, NAN}, {NAN, NAN, NAN}, kFace};
    int64_t best_slot = -1;
    bvh.visit_nearest(
        Vec3f(p), [&] { return best.distance_squared; },
        [&](int64_t triangle) {
          const TrianglePoint found = closest_point_on_triangle(p, bvh.corner(triangle, 0), bvh.corner(triangle, 1),
                                                                bvh.corner(triangle, 2));
          if (found.distance_squared < best.distance_squared) {
            best = found;
            best_slot = triangle;
          }
        });
    distance[i] = best_slot < 0 ? T(NAN) : T(std::sqrt(best.distance_squared));
    slot[i] = int32_t(best_slot);
    store3(closest, i, Vec3<T>(best.point + center));
    store3(barycentric, i, Vec3<T>(best.barycentric));
    sign[i] = T(1);
    if (pseudonormals != nullptr && best_slot >= 0) {
      // Source: Baerentzen and Aanaes, "Signed Distance Computation Using the Angle Weighted Pseudonormal", 2005.
      const Vec3d normal = Vec3d(load3(pseudonormals, 7 * best_slot + best.feature));
      if (dot(p - best.point, normal) < 0) sign[i] = T(-1);
    }
  }
};

// Generalised winding number: 1 inside, 0 outside a closed mesh, in between where the mesh is open.
// A node farther away than `beta` times its radius is replaced by its first two moments.
// Source: Barill et al., "Fast Winding Numbers for Soups and Clouds", SIGGRAPH 2018, section 3.
template <typename T>
struct WindingNumber {
  const T* points;  // [N, 3] mesh units
  Bvh bvh;
  double beta;
  // outputs
  T* winding_number;  // [N]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    constexpr double kInverseFullAngle = 0.079577471545947667884;  // 1 / (4 pi)
    const Vec3d p = Vec3d(load3(points, i)) - load3(bvh.center, 0);
    double sum = 0;  // steradians
    int stack[kMostDepth];
    int waiting = 0;
    stack[waiting++] = 0;
    while (waiting > 0) {
      const int node = stack[--waiting];
      const float* moments = bvh.moments + kMomentSize * int64_t(node);
      const Vec3d arm = Vec3d(load3(moments, 0)) - p;
      const double radius = beta * double(moments[15]);
      const double squared = dot(arm, arm);
      if (squared > radius * radius) {
        sum += far_field(moments, arm, squared);
        continue;
      }
      const int first = bvh.links[2 * int64_t(node)], leaf = bvh.links[2 * int64_t(node) + 1];
      if (leaf == 0) {
        stack[waiting++] = first + 1;
        stack[waiting++] = first;
        continue;
      }
      for (int slot = first; slot < first + leaf; ++slot) {
        sum += solid_angle(bvh.corner(slot, 0) - p, bvh.corner(slot, 1) - p, bvh.corner(slot, 2) - p);
      }
    }
    winding_number[i] = T(sum * kInverseFullAngle);
  }

  PIM_HOST_DEVICE static double far_field(const float* moments, Vec3d arm, double squared) {
    const double inverse = 1 / std::sqrt(squared);
    const double cubed = inverse * inverse * inverse;
    const float* m = moments + 6;
    const double trace = double(m[0]) + double(m[4]) + double(m[8]);
    const Vec3d rows = {dot(Vec3d(load3(m, 0)), arm), dot(Vec3d(load3(m, 1)), arm), dot(Vec3d(load3(m, 2)), arm)};
    return cubed * (dot(Vec3d(load3(moments, 1)), arm) + trace - 3 * inverse * inverse * dot(arm, rows));
  }
};

}  // namespace pyimplicit
