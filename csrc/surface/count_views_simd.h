// The CPU's specialised twin of CountViews in depth_maps.h: a block of neighbouring points, view by view, so that the
// compiler does several points at once and a view's pixels stay in the caches. Included once for each instruction set,
// inside a namespace of its own: see depth_maps_cpu.cpp.

constexpr int kBlock = 256;

// Points first ... first + count - 1, at most kBlock of them.
inline void count_block(const CountViews& kernel, int64_t first, int count) {
  float x[kBlock], y[kBlock], z[kBlock];
  int32_t index[kBlock], seen[kBlock], sees[kBlock];
  for (int i = 0; i < count; ++i) {
    const Vec3f p = load3(kernel.points, first + i);
    x[i] = p.x, y[i] = p.y, z[i] = p.z;
    index[i] = i, seen[i] = 0;
  }
  int left = count;
  const int32_t size = int32_t(kernel.views.size);
  const float middle = 0.5f * float(size) - 0.5f, last = float(size - 1), pixel = kernel.views.pixel;
  for (int64_t view = 0; view < kernel.view_count && left > 0; ++view) {
    const float* r = kernel.views.rotations + 9 * view;
    const float r0 = r[0], r1 = r[1], r2 = r[2], r3 = r[3], r4 = r[4], r5 = r[5], r6 = r[6], r7 = r[7], r8 = r[8];
    const float* image = kernel.depth + view * kernel.views.size * kernel.views.size;
    for (int i = 0; i < left; ++i) {
      const float column = std::floor((r0 * x[i] + r1 * y[i] + r2 * z[i]) / pixel + middle + 0.5f);
      const float row = std::floor((r3 * x[i] + r4 * y[i] + r5 * z[i]) / pixel + middle + 0.5f);
      const float along = r6 * x[i] + r7 * y[i] + r8 * z[i];
      const bool there = column >= 0 && row >= 0 && column <= last && row <= last;
      const int32_t at = there ? int32_t(row) * size + int32_t(column) : 0;
      sees[i] = !there | (along < image[at]);
    }
    int kept = 0;
    for (int i = 0; i < left; ++i) {
      seen[i] += sees[i];
      if (seen[i] >= kernel.enough) {
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
