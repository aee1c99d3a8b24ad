// The order in which a batch of query points is answered: along a Morton curve, so that neighbours follow each other
// and find what they need still in the cache, and their neighbour's answer as a first guess.
#pragma once

#include <cstdint>

#include "base/parallel.h"
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

// Indices of points [count, 3] along a Morton curve over their bounding box. Stable, so the order depends on the
// points alone, not on the number of threads. A radix sort of two passes, each over one half of the key.
template <typename T>
std::vector<int32_t> morton_order(const T* points, int64_t count, Executor executor) {
  // Cells of about an eighth of a point: finer ones gain nothing, coarser ones leave neighbours out of order.
  int bits = 4;  // an axis
  while (bits < 10 && int64_t(1) << (3 * (bits - 1)) < count) ++bits;
  const int digit_bits = (3 * bits + 1) / 2;
  const int64_t digits = int64_t(1) << digit_bits;
  const int64_t blocks = std::max<int64_t>(1, std::min<int64_t>(count / 8192, int64_t(executor.handle)));
  const auto in_blocks = [&](const auto& work) {
    const auto block = [&](int64_t b) { work(b, count * b / blocks, count * (b + 1) / blocks); };
    parallel_for(blocks, block, executor, 1);
  };

  struct Range {
    Vec3d low, high;
  };
  std::vector<Range> ranges(blocks);
  in_blocks([&](int64_t b, int64_t begin, int64_t end) {
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

  // Where each block puts its entries with each digit: counts, summed up digit by digit and block by block.
  std::vector<int32_t> places(blocks * digits);
  const auto sum_up = [&] {
    int32_t before = 0;
    for (int64_t digit = 0; digit < digits; ++digit) {
      for (int64_t b = 0; b < blocks; ++b) {
        const int32_t here = places[b * digits + digit];
        places[b * digits + digit] = before;
        before += here;
      }
    }
  };
  struct Keyed {
    uint32_t key;
    int32_t index;
  };
  std::vector<Keyed> keyed(count), half_sorted(count);
  in_blocks([&](int64_t b, int64_t begin, int64_t end) {
    int32_t* const place = places.data() + b * digits;
    for (int64_t i = begin; i < end; ++i) {
      const Vec3d p = Vec3d(load3(points, i)) - low;
      const uint32_t key = spread_bits(uint32_t(p.x * scale)) | spread_bits(uint32_t(p.y * scale)) << 1 |
                           spread_bits(uint32_t(p.z * scale)) << 2;
      keyed[i] = {key, int32_t(i)};
      ++place[key & (digits - 1)];
    }
  });
  sum_up();
  in_blocks([&](int64_t b, int64_t begin, int64_t end) {
    int32_t* const place = places.data() + b * digits;
    for (int64_t i = begin; i < end; ++i) half_sorted[place[keyed[i].key & (digits - 1)]++] = keyed[i];
  });
  std::fill(places.begin(), places.end(), 0);
  in_blocks([&](int64_t b, int64_t begin, int64_t end) {
    int32_t* const place = places.data() + b * digits;
    for (int64_t i = begin; i < end; ++i) ++place[half_sorted[i].key >> digit_bits];
  });
  sum_up();
  std::vector<int32_t> order(count);
  in_blocks([&](int64_t b, int64_t begin, int64_t end) {
    int32_t* const place = places.data() + b * digits;
    for (int64_t i = begin; i < end; ++i) order[place[half_sorted[i].key >> digit_bits]++] = half_sorted[i].index;
  });
  return order;
}

#endif

}  // namespace pyimplicit
