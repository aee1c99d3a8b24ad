// Generalised winding numbers of several points together; see WindingNumber in surface.h. Part of surface_simd.h.

inline void winding_numbers(const Bvh& bvh, const Vec3f* points, int count, float beta, float* winding) {
  WorkList nodes;
  F8 sums[kTogether];
  for (int i = 0; i < count; ++i) {
    sums[i] = F8{};
    nodes.search[i] = i;
    nodes.link[i] = 0;
  }
  nodes.count = count;
  // Looks at one node of the hierarchy for one point, and returns which children are too near for their moments.
  const auto look = [&](int which, int64_t node) {
    const Vec3f point = points[which];
    const float* moments = bvh.moments + node * (kMomentSize * kWidth);
    const auto m = [&](int k) { return load8(moments + k * kWidth); };
    const F8 x = m(0) - point.x, y = m(1) - point.y, z = m(2) - point.z, radius = beta * m(12);
    const F8 squared = x * x + y * y + z * z;
    const I8 far = squared > radius * radius;
    // By unit vectors, whose products cannot overflow: a point at 1e30 sees a field of 0.
    const F8 inverse = inverse_sqrt8(max8(squared, splat(1e-30f)));
    const F8 ux = x * inverse, uy = y * inverse, uz = z * inverse;
    const F8 second = ux * (m(6) * ux + m(9) * uy) + uy * (m(7) * uy + m(10) * uz) + uz * (m(8) * uz + m(11) * ux);
    const F8 field = inverse * inverse * (m(3) * ux + m(4) * uy + m(5) * uz + inverse * second);
    // Places without a child hold zero moments; beyond float32 squares there is nothing to see.
    sums[which] += select8(far & (squared < splat(1e37f)), field, F8{});
    return ~bits_of(far) & 0xFFu;
  };
  const auto leaves_of = [&](int which, int64_t node, unsigned leaves) {
    for (; leaves != 0; leaves &= leaves - 1) {
      sums[which] += leaf_solid_angles(bvh, ~bvh.links[node * kWidth + __builtin_ctz(leaves)], points[which]);
    }
  };
  const auto alone = [&](int which, int32_t node) {
    int32_t stack[kStackSize];
    int waiting = 0;
    stack[waiting++] = node;
    while (waiting > 0) {
      node = stack[--waiting];
      const int32_t* links = bvh.links + int64_t(node) * kWidth;
      const I8 all = load8(links);
      const unsigned near = look(which, node) & ~bits_of(all == I8{} + kNoChild);
      leaves_of(which, node, near & bits_of(all));
      for (unsigned inner = near & ~bits_of(all); inner != 0; inner &= inner - 1) {
        stack[waiting++] = links[__builtin_ctz(inner)];
      }
    }
  };
  for (int next = 0; next < nodes.count; ++next) {
    const int which = nodes.search[next];
    const int32_t node = nodes.link[next];
    const I8 links = load8(bvh.links + int64_t(node) * kWidth);
    const unsigned near = look(which, node) & ~bits_of(links == I8{} + kNoChild), leaf = bits_of(links);
    nodes.append(which, links, Packing(near & ~leaf), __builtin_popcount(near & ~leaf));
    leaves_of(which, node, near & leaf);
    if (nodes.full()) {
      for (++next; next < nodes.count; ++next) alone(nodes.search[next], nodes.link[next]);
    }
  }
  for (int i = 0; i < count; ++i) winding[i] = 0.07957747f * sum8(sums[i]);  // 1 / (4 pi)
}

// Whether each of several points is inside; see winding_stage in surface.h.
inline void find_inside(const Bvh& bvh, const Vec3f* points, int count, bool* inside) {
  int open[kTogether];
  Vec3f waiting[kTogether];
  for (int i = 0; i < count; ++i) open[i] = i;
  for (int i = 0; i < kWindingStages && count > 0; ++i) {
    const WindingStage stage = winding_stage(i);
    float winding[kTogether];
    for (int k = 0; k < count; ++k) waiting[k] = points[open[k]];
    winding_numbers(bvh, waiting, count, float(stage.beta), winding);
    int left = 0;
    for (int k = 0; k < count; ++k) {
      inside[open[k]] = winding[k] > 0.5f;
      if (std::fabs(winding[k] - 0.5f) < float(stage.margin)) open[left++] = open[k];
    }
    count = left;
  }
}
