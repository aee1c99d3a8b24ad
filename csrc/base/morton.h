// The order in which a batch of query points is answered: along a Morton curve, so that neighbours follow each other
// and find what they need still in the cache, and their neighbour's answer as a first guess.
#pragma once

#include <cstdint>

#include "base/key_order.h"
#include "base/vec3.h"

#if !defined(__CUDACC__)
#include <algorithm>
#include <vector>
#endif

namespace pyimplicit {

// Puts two zero bits behind each of the ten low bits of x.
PIM_HOST_DEVICE inline uint32_t spread_bits(uint32_t x) {
  x = (x | (x << 16)) & 0x030000FFu;
  x = (x | (x << 8)) & 0x0300F00Fu;
  x = (x | (x << 4)) & 0x030C30C3u;
  return (x | (x << 2)) & 0x09249249u;
}

// Keys that sort points along a Morton curve over a box; what the GPU sorts by.
template <typename T>
struct MortonKeys {
  const T* points;  // [N, 3]
  const T* box;     // [2, 3] smallest and largest coordinates of the points
  // outputs
  int32_t* keys;  // [N], not negative

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Vec3d low = Vec3d(load3(box, 0)), side = Vec3d(load3(box, 1)) - low, p = Vec3d(load3(points, i)) - low;
    const double extent = fmax(side.x, fmax(side.y, side.z)), scale = extent > 0 ? 1023 / extent : 0;
    keys[i] = int32_t(spread_bits(uint32_t(p.x * scale)) | spread_bits(uint32_t(p.y * scale)) << 1 |
                      spread_bits(uint32_t(p.z * scale)) << 2);
  }
};

#if !defined(__CUDACC__)

// Writes the indices of points [count, 3], plus `first`, along a Morton curve over their bounding box.
template <typename T>
void morton_order(const T* points, int64_t count, int32_t first, int32_t* order, Executor executor) {
  // Cells of about an eighth of a point: finer ones gain nothing, coarser ones leave neighbours out of order.
  int bits = 4;  // an axis
  while (bits < 10 && int64_t(1) << (3 * (bits - 1)) < count) ++bits;
  const SortBlocks blocks(count, executor);
  struct Range {
    Vec3d low, high;
  };
  std::vector<Range> ranges(blocks.blocks);
  blocks.run([&](int64_t b, int64_t begin, int64_t end) {
    Vec3<T> low = load3(points, begin), high = low;
    for (int64_t i = begin + 1; i < end; ++i) {
      const Vec3<T> p = load3(points, i);
      low = {std::min(low.x, p.x), std::min(low.y, p.y), std::min(low.z, p.z)};
      high = {std::max(high.x, p.x), std::max(high.y, p.y), std::max(high.z, p.z)};
    }
    ranges[b] = {Vec3d(low), Vec3d(high)};
  });
  Vec3d low = ranges[0].low, high = ranges[0].high;
  for (const Range& range : ranges) {
    low = {std::min(low.x, range.low.x), std::min(low.y, range.low.y), std::min(low.z, range.low.z)};
    high = {std::max(high.x, range.high.x), std::max(high.y, range.high.y), std::max(high.z, range.high.z)};
  }
  const double extent = std::max(high.x - low.x, std::max(high.y - low.y, high.z - low.z));
  const double scale = extent > 0 ? ((1 << bits) - 1) / extent : 0;
  const auto key_of = [&](int64_t i) {
    const Vec3d p = Vec3d(load3(points, i)) - low;
    return spread_bits(uint32_t(p.x * scale)) | spread_bits(uint32_t(p.y * scale)) << 1 |
           spread_bits(uint32_t(p.z * scale)) << 2;
  };
  order_by_keys(count, 3 * bits, key_of, first, order, executor);
}

template <typename T>
std::vector<int32_t> morton_order(const T* points, int64_t count, Executor executor) {
  std::vector<int32_t> order(count);
  morton_order(points, count, 0, order.data(), executor);
  return order;
}

#endif

}  // namespace pyimplicit
