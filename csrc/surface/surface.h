// Surface queries over the hierarchy of bvh.h: closest point with distance and sign, winding number. The plain bodies,
// for CPU and GPU; surface_simd.h has the CPU's faster twin.
#pragma once

#include "surface/bvh.h"
#include "surface/pseudonormal.h"
#include "surface/start_grid.h"

namespace pyimplicit {

// Generalised winding number: 1 inside, 0 outside a closed mesh, in between where the mesh is open.
// A node farther away than `beta` times its radius is replaced by its first two moments. Without the triangle at slot
// `without`, if that is not negative.
// Source: Barill et al., "Fast Winding Numbers for Soups and Clouds", SIGGRAPH 2018, section 3.
PIM_HOST_DEVICE inline double winding_number_at(const Bvh& bvh, Vec3d p, double beta, int64_t without = -1) {
  constexpr double kInverseFullAngle = 0.079577471545947667884;  // 1 / (4 pi)
  double sum = 0;  // steradians
  int32_t stack[kStackSize];
  int waiting = 0;
  stack[waiting++] = 0;
  while (waiting > 0) {
    const int64_t node = stack[--waiting];
    for (int child = 0; child < kWidth; ++child) {
      const int32_t link = bvh.links[kWidth * node + child];
      if (link == kNoChild) continue;
      const float* moments = bvh.moments + kMomentSize * kWidth * node + child;
      const auto m = [&](int k) { return double(moments[k * kWidth]); };
      const Vec3d arm = Vec3d{m(0), m(1), m(2)} - p;
      const double radius = beta * m(12), squared = dot(arm, arm);
      if (squared > radius * radius) {
        // By unit vectors, whose products cannot overflow: a point at 1e200 sees a field of 0.
        const double inverse = 1 / std::sqrt(squared);
        const Vec3d unit = inverse * arm;
        const double second = unit.x * (m(6) * unit.x + m(9) * unit.y) + unit.y * (m(7) * unit.y + m(10) * unit.z) +
                              unit.z * (m(8) * unit.z + m(11) * unit.x);
        sum += inverse * inverse * (dot(Vec3d{m(3), m(4), m(5)}, unit) + inverse * second);
      } else if (link >= 0) {
        stack[waiting++] = link;
      } else {
        for (int64_t slot = bvh.leaf_first[~link]; slot < bvh.leaf_first[~link + 1]; ++slot) {
          if (slot == without) continue;
          sum += solid_angle(bvh.corner(slot, 0) - p, bvh.corner(slot, 1) - p, bvh.corner(slot, 2) - p);
        }
      }
    }
  }
  return sum * kInverseFullAngle;
}

// Inside is where the winding number is above 0.5. Most points are far from that limit, and a rough value tells their
// side; those within `margin` of it are looked at again, closer. Each margin is well above the largest error of
// its beta; `verify_surface` and the tests of `contains` hold what comes out against double-precision sums.
struct WindingStage {
  double beta, margin;
};
constexpr int kWindingStages = 4;

PIM_HOST_DEVICE constexpr WindingStage winding_stage(int i) {
  constexpr WindingStage stages[kWindingStages] = {{1.3, 0.2}, {2, 0.05}, {4, 0.01}, {8, 0}};
  return stages[i];
}

PIM_HOST_DEVICE inline bool is_inside(const Bvh& bvh, Vec3d p) {
  double winding = 0;
  for (int i = 0; i < kWindingStages; ++i) {
    const WindingStage stage = winding_stage(i);
    winding = winding_number_at(bvh, p, stage.beta);
    if (std::fabs(winding - 0.5) >= stage.margin) break;
  }
  return winding > 0.5;
}

template <typename T>
struct WindingNumber {
  const T* points;  // [N, 3] mesh units
  Bvh bvh;
  double beta;
  // outputs
  T* winding_number;  // [N]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    winding_number[i] = T(winding_number_at(bvh, bvh.local(Vec3d(load3(points, i))), beta));
  }
};

template <typename T>
struct Contains {
  const T* points;  // [N, 3] mesh units
  Bvh bvh;
  // outputs
  bool* inside;  // [N]

  PIM_HOST_DEVICE void operator()(int64_t i) const { inside[i] = is_inside(bvh, bvh.local(Vec3d(load3(points, i)))); }
};

// How the sign of a distance is found.
enum class SignMethod : int {
  kNone = 0,          // distances are not signed
  kPseudonormal = 1,  // right for closed, consistently oriented meshes that do not overlap themselves
  kWinding = 2,       // inside where the winding number is above 0.5
};

// Distance to the surface, and what else is asked. NaN in, NaN out: the public functions refuse such points.
template <typename T>
struct SurfaceQuery {
  const T* points;       // [N, 3] mesh units
  const int64_t* order;  // [N] the order in which to answer, or null; neighbours in space should follow each other
  const int32_t* first_leaf;  // [N] where to look first, -1 where nothing is known; or null. The CPU's twin reads it
  Bvh bvh;
  StartGrid start;
  SignMethod sign_method;
  const int32_t* pseudonormals;  // [F, 6] by leaf slot, packed as in pseudonormal.h, for kPseudonormal
  const int32_t* leaf_sides;     // [L] what is known of them for each leaf, see LeafSides; the CPU's twin reads it
  bool inherit;                // whether the surface is closed, so that the sign changes only across it
  // outputs
  T* distance;     // [N] mesh units, negative inside if signed
  T* closest;      // [N, 3], or null
  int32_t* slot;   // [N] leaf slot of the triangle, or null
  int64_t* face;   // [N] face of the mesh, or null
  T* barycentric;  // [N, 3], or null

  PIM_HOST_DEVICE void operator()(int64_t at) const { answer(order == nullptr ? at : order[at]); }

  PIM_HOST_DEVICE void answer(int64_t i) const {
    const Vec3d p = bvh.local(Vec3d(load3(points, i)));
    TrianglePoint best;
    int64_t best_slot;
    find_closest(p, best, best_slot);
    double sign = 1;
    if (sign_method == SignMethod::kPseudonormal && best_slot >= 0) {
      sign = sign_from_pseudonormal(p, best, best_slot);
    }
    if (sign == 0 || sign_method == SignMethod::kWinding) sign = is_inside(bvh, p) ? -1 : 1;
    distance[i] = best_slot < 0 ? T(NAN) : T(sign * std::sqrt(best.distance_squared) / bvh.scale);
    if (closest == nullptr) return;
    slot[i] = int32_t(best_slot);
    face[i] = best_slot < 0 ? -1 : bvh.triangle_face[best_slot];
    store3(closest, i, Vec3<T>(bvh.global(best.point)));
    store3(barycentric, i, Vec3<T>(best.barycentric));
  }

  // The closest point to p, both in coordinates of the hierarchy. Of triangles at the very same distance the first one.
  PIM_HOST_DEVICE void find_closest(Vec3d p, TrianglePoint& best, int64_t& best_slot) const {
    best = {INFINITY, {NAN, NAN, NAN}, {NAN, NAN, NAN}, kFace};
    best_slot = -1;
    const auto at_triangle = [&](int64_t triangle) {
      const TrianglePoint found = closest_point_on_triangle(p, bvh.corner(triangle, 0), bvh.corner(triangle, 1),
                                                            bvh.corner(triangle, 2));
      const double squared = found.distance_squared;
      if (squared < best.distance_squared || (squared == best.distance_squared && triangle < best_slot)) {
        best = found;
        best_slot = triangle;
      }
    };
    // So far away that float32 loses its square, the whole mesh is one point, and the direction is enough.
    const double largest = fmax(fabs(p.x), fmax(fabs(p.y), fabs(p.z)));
    const Vec3f near_p = Vec3f(largest > 1e18 ? (1e18 / largest) * p : p);
    if (start.leaf != nullptr) {
      const int64_t leaf = start.leaf[start.cell(near_p)];
      for (int64_t slot = bvh.leaf_first[leaf]; slot < bvh.leaf_first[leaf + 1]; ++slot) at_triangle(slot);
    }
    bvh.visit_nearest(near_p, [&] { return best.distance_squared; }, at_triangle);
  }

  // 1 outside, -1 inside, or 0 where rounding could take one for the other: the winding number knows.
  // Source: Baerentzen and Aanaes, "Signed Distance Computation Using the Angle Weighted Pseudonormal", 2005.
  PIM_HOST_DEVICE double sign_from_pseudonormal(Vec3d p, const TrianglePoint& nearest, int64_t nearest_slot) const {
    // Beyond the box around a closed mesh is outside; from far away, where rounding makes all triangles equally near, and
    // one side of a thin sheet like the other, only that tells.
    if (fmax(fabs(p.x), fmax(fabs(p.y), fabs(p.z))) > 1) return 1;
    const int32_t* packed = pseudonormals + kPacked * nearest_slot;
    if (nearest.feature == kFace) {
      if (packed[0] == kUnsure) return 0;
      const Vec3d a = bvh.corner(nearest_slot, 0);
      const Vec3d normal = cross(bvh.corner(nearest_slot, 1) - a, bvh.corner(nearest_slot, 2) - a);
      return dot(p - a, normal) < 0 ? -1 : 1;
    }
    const int32_t of_feature = packed[nearest.feature - 1];
    if (of_feature == kUnsure) return 0;
    const double along = dot(p - nearest.point, unpack_direction(of_feature));
    // A search may end up to kNearest beyond the nearest point, and so as much to its side as this leaves room for.
    constexpr double kNearest = 5e-7;
    const double squared = nearest.distance_squared, room = 2 * kNearest * std::sqrt(squared);
    if (!(along * along > fmax(room, kPackingError * kPackingError * squared))) return 0;
    return along < 0 ? -1 : 1;
  }
};

}  // namespace pyimplicit
