// A leaf's eight triangles at once: distances, closest point, solid angles. Part of surface_simd.h.

// Where p lies beside a leaf's eight triangles.
struct Heights {
  F8 height;  // above the plane of the triangle, along its normal
  F8 room;    // squared distance from the triangle's nearest edge to p's foot in that plane, negated if it is beyond it
};

// Squared distances from p to a leaf's eight triangles, each in a frame of its own (build::write_frame). Always in place:
// whether heights are asked for is known where it is called.
__attribute__((always_inline)) inline F8 leaf_distances(const Bvh& bvh, int32_t leaf, Vec3f p, Heights* heights = nullptr) {
  const float* frame = bvh.frames + int64_t(leaf) * (kFrameSize * kWidth);
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
  if (heights != nullptr) {
    const auto signed_square = [](F8 a) { return a * max8(a, -a); };
    const F8 from_ac = signed_square(cy * x - cx * y) * inverse_ac;
    const F8 from_bc = signed_square(bc_x * y - cy * from_bx) * inverse_bc;
    *heights = {z, min8(signed_square(y), min8(from_ac, from_bc))};
  }
  return z * z + select8(inside, zero, edges);
}

// The closest point of some triangles found so far, exactly, in double precision.
struct Exact {
  TrianglePoint found;
  int32_t slot = -1;
};

// Looks at those of a leaf's triangles that float32 puts within the squared distance `cutoff`. Of triangles at the very
// same distance the first one counts, so that the answer does not depend on the order of leaves.
inline void closest_in_leaf(const Bvh& bvh, int32_t leaf, Vec3d p, float cutoff, Exact& best) {
  const unsigned close = bits_of(leaf_distances(bvh, leaf, Vec3f(p)) < splat(cutoff));
  for (int32_t lane = 0; lane < bvh.leaf_first[leaf + 1] - bvh.leaf_first[leaf]; ++lane) {
    if ((close >> lane & 1) == 0) continue;
    const int32_t slot = bvh.leaf_first[leaf] + lane;
    const TrianglePoint found = closest_point_on_triangle(p, bvh.corner(slot, 0), bvh.corner(slot, 1), bvh.corner(slot, 2));
    const double squared = found.distance_squared, least = best.found.distance_squared;
    if (best.slot < 0 || squared < least || (squared == least && slot < best.slot)) best = {found, slot};
  }
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

// Solid angles of a leaf's triangles, seen from p; padded lanes give 0. The corners come from the frames, which keep the
// triangle's sense of rotation.
inline F8 leaf_solid_angles(const Bvh& bvh, int32_t leaf, Vec3f p) {
  const float* frame = bvh.frames + int64_t(leaf) * (kFrameSize * kWidth);
  const int count = bvh.leaf_first[leaf + 1] - bvh.leaf_first[leaf];
  const auto value = [&](int k) { return load8(frame + k * kWidth); };
  const F8 ux = value(3), uy = value(4), uz = value(5), nx = value(6), ny = value(7), nz = value(8);
  const F8 b = value(9), along = value(10), across = value(11);
  const F8 ax = value(0) - p.x, ay = value(1) - p.y, az = value(2) - p.z;
  const F8 bx = ax + b * ux, by = ay + b * uy, bz = az + b * uz;
  const F8 cx = ax + along * ux + across * (ny * uz - nz * uy), cy = ay + along * uy + across * (nz * ux - nx * uz),
           cz = az + along * uz + across * (nx * uy - ny * ux);
  const F8 la = sqrt8(ax * ax + ay * ay + az * az), lb = sqrt8(bx * bx + by * by + bz * bz),
           lc = sqrt8(cx * cx + cy * cy + cz * cz);
  // The triple product of the corners is the height times twice the area, which loses no digits.
  const F8 determinant = (ax * nx + ay * ny + az * nz) * (b * across), lengths = la * lb * lc;
  const F8 denominator = lengths + (ax * bx + ay * by + az * bz) * lc + (bx * cx + by * cy + bz * cz) * la +
                         (cx * ax + cy * ay + cz * az) * lb;
  const I8 lanes = {0, 1, 2, 3, 4, 5, 6, 7};
  const I8 counts = (lanes < count) & (determinant != F8{});
  F8 angles = select8(counts, 2.0f * atan2_8(determinant, denominator), F8{});
  // Close to an edge, as seen from a triangle, and anywhere near a sliver, the terms cancel: those in double precision.
  const F8 left = max8(determinant, -determinant) + max8(denominator, -denominator);
  for (unsigned lost = bits_of(counts & (left < 3e-5f * lengths)); lost != 0; lost &= lost - 1) {
    const int lane = __builtin_ctz(lost);
    const int64_t slot = bvh.leaf_first[leaf] + lane;
    const Vec3d from = Vec3d(p);
    angles[lane] = float(solid_angle(bvh.corner(slot, 0) - from, bvh.corner(slot, 1) - from, bvh.corner(slot, 2) - from));
  }
  return angles;
}
