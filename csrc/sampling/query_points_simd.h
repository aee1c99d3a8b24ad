// The CPU's specialised twin of query_points.h: the same arithmetic for a block of points, step by step, so that the
// compiler does several points at once. Included once for each instruction set, inside a namespace of its own: see
// query_points_cpu.cpp.

constexpr int kBlock = 64;

// Standard normals for a block; see normal3.
struct BlockNormals {
  double x[kBlock], y[kBlock], z[kBlock];

  BlockNormals(const RandomStream& stream, int64_t first, int count) {
    uint32_t words[4][kBlock] = {};
    for (int i = 0; i < count; ++i) {
      const Words4 four = stream.words(first + i);
      for (int k = 0; k < 4; ++k) words[k][i] = four.w[k];
    }
    double radius[kBlock];
    for (int i = 0; i < kBlock; ++i) radius[i] = std::sqrt(-2 * exact::log_uniform(words[0][i]));
    for (int i = 0; i < kBlock; ++i) {
      const exact::CirclePoint at = exact::circle_point(words[1][i]);
      x[i] = mul_rounded(radius[i], at.cosine), y[i] = mul_rounded(radius[i], at.sine);
    }
    for (int i = 0; i < kBlock; ++i) radius[i] = std::sqrt(-2 * exact::log_uniform(words[2][i]));
    for (int i = 0; i < kBlock; ++i) z[i] = mul_rounded(radius[i], exact::circle_point(words[3][i]).cosine);
  }
};

// Points j ... j + count - 1 of a row, all of one source, `count` at most kBlock.
inline void draw_block(const DrawQueryPoints& kernel, const PointSource& source, int64_t row, int64_t j, int count) {
  const int64_t index = j - source.first, out = row * kernel.each + j;
  const RandomStream stream = kernel.streams.of(row, uint32_t(source.purpose));
  if (source.sigma < 0) {
    const Uniform<float> uniform = {stream, -kernel.half_side, kernel.half_side, kernel.points + 3 * (out - index)};
    for (int i = 0; i < count; ++i) uniform(index + i);
    if (kernel.face != nullptr) std::fill_n(kernel.face + out, count, -1);
    if (kernel.leaf != nullptr) std::fill_n(kernel.leaf + out, count, -1);
    return;
  }
  const SurfaceEntry& e = kernel.table.entries[kernel.shapes[row]];
  const Bvh bvh = kernel.table.bvh(e);
  const AliasEntry* areas = kernel.areas + e.triangle;
  Words4 words[kBlock];
  int64_t triangle[kBlock];
  for (int i = 0; i < count; ++i) words[i] = stream.words(index + i);
  for (int i = 0; i < count; ++i) triangle[i] = pick(areas, e.triangles, words[i].w[0], words[i].w[1]);
  // They lie anywhere in memory: on their way while something else is done.
  for (int i = 0; i < count; ++i) {
    const float* const corners = bvh.triangles + 9 * triangle[i];
    __builtin_prefetch(corners);
    __builtin_prefetch(corners + 8);
  }
  Vec3d points[kBlock];
  for (int i = 0; i < count; ++i) {
    const int64_t t = triangle[i];
    points[i] = bvh.global(even_point(words[i], bvh.corner(t, 0), bvh.corner(t, 1), bvh.corner(t, 2)));
  }
  if (source.sigma > 0) {
    const BlockNormals noise(kernel.streams.of(row, uint32_t(source.purpose) + 1), index, count);
    for (int i = 0; i < count; ++i) {
      points[i] = add_rounded(points[i], scale_rounded(source.sigma, {noise.x[i], noise.y[i], noise.z[i]}));
    }
  }
  for (int i = 0; i < count; ++i) store3(kernel.points, out + i, Vec3f(points[i]));
  if (kernel.face != nullptr) {
    for (int i = 0; i < count; ++i) kernel.face[out + i] = bvh.triangle_face[triangle[i]];
  }
  if (kernel.leaf != nullptr) {
    const int32_t* leaves = kernel.table.triangle_leaf + e.triangle;
    for (int i = 0; i < count; ++i) kernel.leaf[out + i] = leaves[triangle[i]];
  }
}

// Points j ... end - 1 of a row.
inline void draw_points(const DrawQueryPoints& kernel, int64_t row, int64_t j, int64_t end) {
  int64_t k = 0;
  while (j < end) {
    while (k + 1 < kernel.sources.count && j >= kernel.sources.of[k + 1].first) ++k;
    const int64_t last = k + 1 < kernel.sources.count ? std::min(end, kernel.sources.of[k + 1].first) : end;
    const int count = int(std::min<int64_t>(kBlock, last - j));
    draw_block(kernel, kernel.sources.of[k], row, j, count);
    j += count;
  }
}
