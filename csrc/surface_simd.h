// The CPU's specialised twin of surface.h: eight boxes or eight triangles at once, queries in Morton order, the
// previous query's leaf tested first, and the sign inherited from it where it cannot have changed.
//
// This header is included once for each instruction set (surface_cpu.h), inside a namespace of its own; what it calls
// from other headers was compiled for the plain one.

#include "simd8.h"

// The leaf that holds the nearest triangle found so far.
struct Nearest {
  float squared;  // squared distance, mesh units
  int32_t leaf;
};

// Squared distances from p to a leaf's eight triangles, each in a frame of its own (build::write_frame).
inline F8 leaf_distances(const float* frame, Vec3f p) {
  const auto value = [&](int k) { return load8(frame + k * kWidth); };
  const F8 dx = p.x - value(0), dy = p.y - value(1), dz = p.z - value(2);
  const F8 ux = value(3), uy = value(4), uz = value(5), nx = value(6), ny = value(7), nz = value(8);
  const F8 bx = value(9), cx = value(10), cy = value(11), inverse_ac = value(12), inverse_bc = value(13);
  const F8 zero = {}, one = splat(1);
  const F8 x = ux * dx + uy * dy + uz * dz, z = nx * dx + ny * dy + nz * dz;
  const F8 y = (ny * uz - nz * uy) * dx + (nz * ux - nx * uz) * dy + (nx * uy - ny * ux) * dz;
  // In the plane: corners (0, 0), (bx, 0), (cx, cy) with cy >= 0.
  const F8 from_bx = x - bx, bc_x = cx - bx;
  const F8 along_ab = x - min8(max8(x, zero), bx);
  const F8 t = min8(max8((x * cx + y * cy) * inverse_ac, zero), one);
  const F8 s = min8(max8((from_bx * bc_x + y * cy) * inverse_bc, zero), one);
  const F8 ac_x = x - t * cx, ac_y = y - t * cy, bc_dx = from_bx - s * bc_x, bc_dy = y - s * cy;
  const F8 edges = min8(along_ab * along_ab + y * y, min8(ac_x * ac_x + ac_y * ac_y, bc_dx * bc_dx + bc_dy * bc_dy));
  const I8 inside = (y > zero) & (cx * y < cy * x) & (bc_x * y > cy * from_bx);
  return z * z + select8(inside, zero, edges);
}

inline void visit_leaf(const Bvh& bvh, int32_t leaf, Vec3f p, Nearest& nearest) {
  const float squared = least(leaf_distances(bvh.frames + int64_t(leaf) * (kFrameSize * kWidth), p));
  if (squared < nearest.squared) nearest = {squared, leaf};
}

// Narrows `nearest` down to the truth. Nearest boxes first, on a stack.
inline void find_nearest(const Bvh& bvh, Vec3f p, Nearest& nearest) {
  struct Waiting {
    float squared;
    int32_t link;
  } stack[kStackSize];
  int waiting = 0;
  const F8 px = splat(p.x), py = splat(p.y), pz = splat(p.z), zero = {};
  int32_t link = 0;
  for (;;) {
    if (link < 0) {
      visit_leaf(bvh, ~link, p, nearest);
    } else {
      const float* box = bvh.bounds + int64_t(link) * (6 * kWidth);
      const F8 x = max8(max8(load8(box) - px, px - load8(box + 24)), zero);
      const F8 y = max8(max8(load8(box + 8) - py, py - load8(box + 32)), zero);
      const F8 z = max8(max8(load8(box + 16) - pz, pz - load8(box + 40)), zero);
      // Rounding is below 1e-6 of the value: the factor keeps the bound a lower one.
      const F8 squared = (x * x + y * y + z * z) * 0.999999f;
      unsigned hits = bits_of(squared < splat(nearest.squared));
      if (hits != 0) {
        float distance[kWidth];
        std::memcpy(distance, &squared, sizeof distance);
        const int32_t* links = bvh.links + int64_t(link) * kWidth;
        int child = __builtin_ctz(hits);
        hits &= hits - 1;
        if (hits == 0) {
          link = links[child];
          continue;
        }
        const int bottom = waiting;
        stack[waiting++] = {distance[child], links[child]};
        do {
          child = __builtin_ctz(hits);
          hits &= hits - 1;
          int place = waiting++;
          for (; place > bottom && stack[place - 1].squared < distance[child]; --place) stack[place] = stack[place - 1];
          stack[place] = {distance[child], links[child]};
        } while (hits != 0);
      }
    }
    do {
      if (waiting == 0) return;
      --waiting;
    } while (!(stack[waiting].squared < nearest.squared));
    link = stack[waiting].link;
  }
}

// The closest point to p on a leaf's triangles, exactly, in double precision.
inline TrianglePoint closest_in_leaf(const Bvh& bvh, int32_t leaf, Vec3d p, int32_t& slot) {
  TrianglePoint best = {};
  best.distance_squared = INFINITY;
  const F8 squared = leaf_distances(bvh.frames + int64_t(leaf) * (kFrameSize * kWidth), Vec3f(p));
  // Only lanes that float32 cannot tell from the nearest are worth the exact test.
  const unsigned close = bits_of(squared <= splat(least(squared) * 1.00001f + 1e-12f));
  for (int32_t lane = 0; lane < bvh.leaf_first[leaf + 1] - bvh.leaf_first[leaf]; ++lane) {
    if ((close >> lane & 1) == 0) continue;
    const int32_t candidate = bvh.leaf_first[leaf] + lane;
    const TrianglePoint found =
        closest_point_on_triangle(p, bvh.corner(candidate, 0), bvh.corner(candidate, 1), bvh.corner(candidate, 2));
    if (found.distance_squared < best.distance_squared) best = found, slot = candidate;
  }
  return best;
}

// Arctangent of y / x over the full circle, to 2e-6 radians.
// Source: Hastings, "Approximations for Digital Computers", 1955, sheet 11 (its polynomial, eight lanes at once).
inline F8 atan2_8(F8 y, F8 x) {
  const F8 zero = {};
  const F8 ax = max8(x, -x), ay = max8(y, -y);
  const F8 larger = max8(ax, ay), smaller = min8(ax, ay);
  const F8 a = smaller / max8(larger, splat(1e-37f)), s = a * a;
  F8 r = splat(-0.01172120f) * s + 0.05265332f;
  r = r * s - 0.11643287f;
  r = r * s + 0.19354346f;
  r = r * s - 0.33262347f;
  r = (r * s + 0.99997726f) * a;
  r = select8(ay > ax, 1.57079637f - r, r);
  r = select8(x < zero, 3.14159274f - r, r);
  return select8(y < zero, -r, r);
}

// Solid angles of a leaf's triangles, seen from p; lanes beyond `count` give 0. The corners come from the frames,
// which keep the triangle's sense of rotation.
inline F8 leaf_solid_angles(const float* frame, int count, Vec3f p) {
  const auto value = [&](int k) { return load8(frame + k * kWidth); };
  const F8 ux = value(3), uy = value(4), uz = value(5), nx = value(6), ny = value(7), nz = value(8);
  const F8 b = value(9), along = value(10), across = value(11);
  const F8 ax = value(0) - p.x, ay = value(1) - p.y, az = value(2) - p.z;
  const F8 sx = b * ux, sy = b * uy, sz = b * uz;  // edge ab
  const F8 tx = along * ux + across * (ny * uz - nz * uy), ty = along * uy + across * (nz * ux - nx * uz),
           tz = along * uz + across * (nx * uy - ny * ux);  // edge ac
  const F8 bx = ax + sx, by = ay + sy, bz = az + sz, cx = ax + tx, cy = ay + ty, cz = az + tz;
  const F8 la = sqrt8(ax * ax + ay * ay + az * az), lb = sqrt8(bx * bx + by * by + bz * bz),
           lc = sqrt8(cx * cx + cy * cy + cz * cz);
  // The triple product from the edges: far from the corners' common offset it would cancel.
  const F8 determinant = ax * (sy * tz - sz * ty) + ay * (sz * tx - sx * tz) + az * (sx * ty - sy * tx);
  const F8 denominator = la * lb * lc + (ax * bx + ay * by + az * bz) * lc + (bx * cx + by * cy + bz * cz) * la +
                         (cx * ax + cy * ay + cz * az) * lb;
  const I8 lanes = {0, 1, 2, 3, 4, 5, 6, 7};
  return select8((lanes < count) & (determinant != F8{}), 2.0f * atan2_8(determinant, denominator), F8{});
}

// Generalised winding number at p; see WindingNumber in surface.h.
inline float fast_winding_number_at(const Bvh& bvh, Vec3f p, float beta) {
  const F8 px = splat(p.x), py = splat(p.y), pz = splat(p.z);
  F8 sum = {};
  int32_t stack[kStackSize];
  int waiting = 0;
  stack[waiting++] = 0;
  while (waiting > 0) {
    const int64_t node = stack[--waiting];
    const float* moments = bvh.moments + node * (kMomentSize * kWidth);
    const auto m = [&](int k) { return load8(moments + k * kWidth); };
    const int32_t* links = bvh.links + node * kWidth;
    const F8 x = m(0) - px, y = m(1) - py, z = m(2) - pz, radius = beta * m(15);
    const F8 squared = x * x + y * y + z * z;
    const I8 far = squared > radius * radius;
    // By unit vectors, whose products cannot overflow: a point at 1e30 sees a field of 0.
    const F8 inverse = 1.0f / sqrt8(max8(squared, splat(1e-30f))), ux = x * inverse, uy = y * inverse, uz = z * inverse;
    const F8 quadratic = ux * (m(6) * ux + m(7) * uy + m(8) * uz) + uy * (m(9) * ux + m(10) * uy + m(11) * uz) +
                         uz * (m(12) * ux + m(13) * uy + m(14) * uz);
    const F8 field = inverse * inverse *
                     (m(3) * ux + m(4) * uy + m(5) * uz + inverse * (m(6) + m(10) + m(14) - 3.0f * quadratic));
    sum += select8(far, field, F8{});  // places without a child hold zero moments
    for (unsigned near = ~bits_of(far) & 0xFFu; near != 0; near &= near - 1) {
      const int32_t link = links[__builtin_ctz(near)];
      if (link >= 0) {
        stack[waiting++] = link;
      } else if (link != kNoChild) {
        const int64_t leaf = ~link;
        const int count = bvh.leaf_first[leaf + 1] - bvh.leaf_first[leaf];
        sum += leaf_solid_angles(bvh.frames + leaf * (kFrameSize * kWidth), count, p);
      }
    }
  }
  return 0.07957747f * sum8(sum);
}

// The largest coordinate of the mesh, from its center.
inline double largest_coordinate(const Bvh& bvh) {
  double largest = 0;
  for (int child = 0; child < kWidth; ++child) {
    if (bvh.links[child] == kNoChild) continue;
    for (int side = 0; side < 6; ++side) {
      largest = std::max(largest, std::fabs(double(bvh.bounds[side * kWidth + child])));
    }
  }
  return largest;
}

// Answers queries order[begin] ... order[end - 1], one after the other, each starting from the one before.
template <typename T>
void answer_queries(const SurfaceQuery<T>& query, const int32_t* order, int64_t begin, int64_t end) {
  const Bvh& bvh = query.bvh;
  const Vec3d center = load3(bvh.center, 0);
  int32_t leaf = 0;
  // Of the coordinates: no distance in float32 is off by more.
  constexpr double kRounding = 1e-6;
  const double mesh_rounding = kRounding * largest_coordinate(bvh);
  Vec3d previous = {};
  double previous_radius = -INFINITY, previous_sign = 1;
  for (int64_t at = begin; at < end; ++at) {
    const int64_t i = order != nullptr ? order[at] : at;
    const Vec3d p = Vec3d(load3(query.points, i)) - center;
    const Vec3f near_p = Vec3f(p);
    Nearest nearest = {INFINITY, leaf};
    visit_leaf(bvh, leaf, near_p, nearest);
    find_nearest(bvh, near_p, nearest);
    if (!(nearest.squared < INFINITY)) {  // so far away that float32 squares overflow
      query(i);
      previous_radius = -INFINITY;
      continue;
    }
    leaf = nearest.leaf;
    double distance = std::sqrt(double(nearest.squared));

    TrianglePoint exact = {};
    int32_t slot = -1;
    double sign = 1;
    const auto find_exact = [&] {
      if (slot < 0) exact = closest_in_leaf(bvh, leaf, p, slot);
    };
    if (query.closest != nullptr || std::is_same<T, double>::value) {
      find_exact();
      distance = std::sqrt(exact.distance_squared);
    }
    if (query.sign_method != SignMethod::kNone) {
      // Two balls surely without a surface inside that overlap lie on the same side of a closed surface.
      const double radius =
          distance - mesh_rounding - kRounding * std::max(std::fabs(p.x), std::max(std::fabs(p.y), std::fabs(p.z)));
      if (query.inherit && length(p - previous) < radius + previous_radius) {
        sign = previous_sign;
      } else if (query.sign_method == SignMethod::kPseudonormal) {
        find_exact();
        sign = query.sign_from_pseudonormal(p, exact, slot);
      } else {
        sign = fast_winding_number_at(bvh, near_p, float(query.beta)) > 0.5f ? -1 : 1;
      }
      previous = p;
      previous_radius = radius;
      previous_sign = sign;
    }
    if (query.closest != nullptr) {
      store3(query.closest, i, Vec3<T>(exact.point + center));
      store3(query.barycentric, i, Vec3<T>(exact.barycentric));
      query.slot[i] = slot;
    }
    query.distance[i] = T(sign * distance);
  }
}

template <typename T>
void answer_winding_numbers(const WindingNumber<T>& query, const int32_t* order, int64_t begin, int64_t end) {
  const Vec3d center = load3(query.bvh.center, 0);
  for (int64_t at = begin; at < end; ++at) {
    const int64_t i = order != nullptr ? order[at] : at;
    const Vec3f p = Vec3f(Vec3d(load3(query.points, i)) - center);
    query.winding_number[i] = T(fast_winding_number_at(query.bvh, p, float(query.beta)));
  }
}
