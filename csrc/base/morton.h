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

constexpr int64_t kSortBlock = 2048;  // elements that are worth a thread

// Calls work(block, begin, end) for pieces of `count` elements, a thread each.
class SortBlocks {
 public:
  SortBlocks(int64_t count, Executor executor)
      : blocks(std::max<int64_t>(1, std::min<int64_t>(count / kSortBlock, int64_t(executor.handle)))),
        count_(count),
        executor_(executor) {}

  template <typename Work>
  void run(const Work& work) const {
    const auto block = [&](int64_t b) { work(b, count_ * b / blocks, count_ * (b + 1) / blocks); };
    parallel_for(blocks, block, executor_, 1);
  }

  const int64_t blocks;

 private:
  const int64_t count_;
  const Executor executor_;
};

// Writes 0 ... count - 1, plus `first`, in the order of key_of(0) ... key_of(count - 1), numbers of `bits` bits. Stable,
// so the order depends on the keys alone, not on the number of threads. A radix sort of one pass or two.
template <typename KeyOf>
void order_by_keys(int64_t count, int bits, const KeyOf& key_of, int32_t first, int32_t* order, Executor executor) {
  constexpr int kOnePass = 11;
  const int digit_bits = bits <= kOnePass ? bits : (bits + 1) / 2;
  const int64_t digits = int64_t(1) << digit_bits;
  const SortBlocks blocks(count, executor);
  // Where each block puts its entries with each digit: counts, summed up digit by digit and block by block.
  std::vector<int32_t> places(blocks.blocks * digits);
  const auto sum_up = [&] {
    int32_t before = 0;
    for (int64_t digit = 0; digit < digits; ++digit) {
      for (int64_t b = 0; b < blocks.blocks; ++b) {
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
  std::vector<Keyed> keyed(count);
  blocks.run([&](int64_t b, int64_t begin, int64_t end) {
    int32_t* const place = places.data() + b * digits;
    for (int64_t i = begin; i < end; ++i) {
      keyed[i] = {key_of(i), first + int32_t(i)};
      ++place[keyed[i].key & (digits - 1)];
    }
  });
  sum_up();
  if (bits <= kOnePass) {
    blocks.run([&](int64_t b, int64_t begin, int64_t end) {
      int32_t* const place = places.data() + b * digits;
      for (int64_t i = begin; i < end; ++i) order[place[keyed[i].key]++] = keyed[i].index;
    });
    return;
  }
  std::vector<Keyed> half_sorted(count);
  blocks.run([&](int64_t b, int64_t begin, int64_t end) {
    int32_t* const place = places.data() + b * digits;
    for (int64_t i = begin; i < end; ++i) half_sorted[place[keyed[i].key & (digits - 1)]++] = keyed[i];
  });
  std::fill(places.begin(), places.end(), 0);
  blocks.run([&](int64_t b, int64_t begin, int64_t end) {
    int32_t* const place = places.data() + b * digits;
    for (int64_t i = begin; i < end; ++i) ++place[half_sorted[i].key >> digit_bits];
  });
  sum_up();
  blocks.run([&](int64_t b, int64_t begin, int64_t end) {
    int32_t* const place = places.data() + b * digits;
    for (int64_t i = begin; i < end; ++i) order[place[half_sorted[i].key >> digit_bits]++] = half_sorted[i].index;
  });
}

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
