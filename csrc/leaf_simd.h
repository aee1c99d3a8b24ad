// A leaf's eight triangles at once: distances, closest point, solid angles. Part of surface_simd.h.

// Squared distances from p to a leaf's eight triangles, each in a frame of its own (build::write_frame).
inline F8 leaf_distances(const Bvh& bvh, int32_t leaf, Vec3f p) {
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
  return z * z + select8(inside, zero, edges);
}

// The closest point to p on a leaf's triangles, exactly, in double precision.
inline TrianglePoint closest_in_leaf(const Bvh& bvh, int32_t leaf, Vec3d p, int32_t& slot) {
  TrianglePoint best = {};
  best.distance_squared = INFINITY;
  const F8 squared = leaf_distances(bvh, leaf, Vec3f(p));
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

// Solid angles of a leaf's triangles, seen from p; padded lanes give 0. The corners come from the frames,
// which keep the triangle's sense of rotation.
inline F8 leaf_solid_angles(const Bvh& bvh, int32_t leaf, Vec3f p) {
  const float* frame = bvh.frames + int64_t(leaf) * (kFrameSize * kWidth);
  const int count = bvh.leaf_first[leaf + 1] - bvh.leaf_first[leaf];
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
