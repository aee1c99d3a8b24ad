// The CPU's specialised twin of CountViews in depth_maps.h: a block of neighbouring points, view by view, so that the
// compiler does several points at once and a view's pixels stay in the caches. Included once for each instruction set,
// inside a namespace of its own: see depth_maps_cpu.cpp.

constexpr int kBlock = 512;

// Points first ... first + count - 1, at most kBlock of them.
inline void count_block(const CountViews& kernel, int64_t first, int count) {
  float x[kBlock], y[kBlock], z[kBlock], along[kBlock];
  int32_t index[kBlock], seen[kBlock], at[kBlock], beside[kBlock];
  for (int i = 0; i < count; ++i) {
    const Vec3f p = load3(kernel.points, first + i);
    x[i] = p.x, y[i] = p.y, z[i] = p.z;
    index[i] = i, seen[i] = 0;
  }
  int left = count;
  const int32_t size = int32_t(kernel.views.size), enough = kernel.enough;
  const float middle = 0.5f * float(size) - 0.5f, last = float(size - 1), pixel = kernel.views.pixel;
  for (int64_t view = 0; view < kernel.view_count && left > 0; ++view) {
    const float* r = kernel.views.rotations + 9 * view;
    const float r0 = r[0], r1 = r[1], r2 = r[2], r3 = r[3], r4 = r[4], r5 = r[5], r6 = r[6], r7 = r[7], r8 = r[8];
    const float* image = kernel.depth + view * kernel.views.size * kernel.views.size;
    for (int i = 0; i < left; ++i) {
      const float column = std::floor((r0 * x[i] + r1 * y[i] + r2 * z[i]) / pixel + middle + 0.5f);
      const float row = std::floor((r3 * x[i] + r4 * y[i] + r5 * z[i]) / pixel + middle + 0.5f);
      const float least_column = column > 0 ? column : 0.0f, least_row = row > 0 ? row : 0.0f;
      const float inner_column = least_column < last ? least_column : last;
      const float inner_row = least_row < last ? least_row : last;
      at[i] = int32_t(inner_row) * size + int32_t(inner_column);
      beside[i] = int32_t(inner_column != column) | int32_t(inner_row != row);
      along[i] = r6 * x[i] + r7 * y[i] + r8 * z[i];
    }
    int32_t done = 0;
    for (int i = 0; i < left; ++i) {
      seen[i] += beside[i] | int32_t(along[i] < image[at[i]]);
      done += int32_t(seen[i] >= enough);
    }
    if (done == 0) continue;
    int kept = 0;
    for (int i = 0; i < left; ++i) {
      if (seen[i] >= enough) {
        kernel.seen[first + index[i]] = seen[i];
        continue;
      }
      x[kept] = x[i], y[kept] = y[i], z[kept] = z[i], index[kept] = index[i], seen[kept] = seen[i];
      ++kept;
    }
    left = kept;
  }
  for (int i = 0; i < left; ++i) kernel.seen[first + index[i]] = seen[i];
}
