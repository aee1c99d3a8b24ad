// The order in which a batch of query points is answered: along a Morton curve, so that neighbours follow each other
// and find what they need still in the cache, and their neighbour's answer as a first guess.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "vec3.h"

namespace pyimplicit {

constexpr int kMortonBits = 10;  // a axis; finer cells gain nothing, and 30 bits are three passes of the sort

// Puts two zero bits behind each of the ten low bits of x.
inline uint32_t spread_bits(uint32_t x) {
  x = (x | (x << 16)) & 0x030000FFu;
  x = (x | (x << 8)) & 0x0300F00Fu;
  x = (x | (x << 4)) & 0x030C30C3u;
  return (x | (x << 2)) & 0x09249249u;
}

// Indices of points [count, 3] along a Morton curve over their bounding box. Stable, so the order depends on the
// points alone.
template <typename T>
std::vector<int32_t> morton_order(const T* points, int64_t count, Executor executor) {
  struct Keyed {
    uint32_t key;
    int32_t index;
  };
  Vec3d low = Vec3d(load3(points, 0)), high = low;
  for (int64_t i = 1; i < count; ++i) {
    const Vec3d p = Vec3d(load3(points, i));
    low = {std::min(low.x, p.x), std::min(low.y, p.y), std::min(low.z, p.z)};
    high = {std::max(high.x, p.x), std::max(high.y, p.y), std::max(high.z, p.z)};
  }
  const double extent = std::max(high.x - low.x, std::max(high.y - low.y, high.z - low.z));
  const double scale = extent > 0 ? ((1 << kMortonBits) - 1) / extent : 0;
  std::vector<Keyed> keyed(count), scratch(count);
  const auto make_key = [&](int64_t i) {
    const Vec3d p = Vec3d(load3(points, i)) - low;
    keyed[i] = {spread_bits(uint32_t(p.x * scale)) | spread_bits(uint32_t(p.y * scale)) << 1 |
                    spread_bits(uint32_t(p.z * scale)) << 2,
                int32_t(i)};
  };
  parallel_for(count, make_key, executor, 8192);

  // Least significant digit first, one histogram pass for all three digits.
  constexpr uint32_t kDigits = 1 << kMortonBits;
  std::vector<int64_t> places(3 * kDigits, 0);
  for (const Keyed& entry : keyed) {
    for (int digit = 0; digit < 3; ++digit) ++places[digit * kDigits + (entry.key >> (digit * kMortonBits)) % kDigits];
  }
  for (int digit = 0; digit < 3; ++digit) {
    int64_t* const place = places.data() + digit * kDigits;
    int64_t before = 0;
    for (uint32_t value = 0; value < kDigits; ++value) {
      const int64_t here = place[value];
      place[value] = before;
      before += here;
    }
    for (const Keyed& entry : keyed) scratch[place[(entry.key >> (digit * kMortonBits)) % kDigits]++] = entry;
    keyed.swap(scratch);
  }
  std::vector<int32_t> order(count);
  for (int64_t i = 0; i < count; ++i) order[i] = keyed[i].index;
  return order;
}

}  // namespace pyimplicit
