// The largest magnitude of an array: one look at all values tells whether they are finite and how large they are. On
// the CPU only, and on this library's own threads: torch's reductions leave its threads spinning for a while, on the
// very processors that the query behind this check is about to use.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/parallel.h"

namespace pyimplicit {

// The largest magnitude of `values` [count]; infinite or NaN if a value is. 0 for no values.
template <typename T, typename Bits>
double largest_magnitude(const T* values, int64_t count, Executor executor) {
  constexpr int64_t kBlock = 65536;
  const int64_t blocks = (count + kBlock - 1) / kBlock;
  std::vector<Bits> of_block(blocks, 0);
  const auto block = [&](int64_t b) {
    // Without their sign bit, floating-point numbers are in the order of the whole numbers of the same bits, infinity
    // and NaN behind all others; whole numbers are what compilers find the largest of eight at a time.
    Bits most = 0;
    const int64_t end = std::min(count, (b + 1) * kBlock);
    for (int64_t i = b * kBlock; i < end; ++i) {
      Bits bits;
      std::memcpy(&bits, values + i, sizeof bits);
      bits &= Bits(~(Bits(1) << (8 * sizeof(Bits) - 1)));
      most = bits > most ? bits : most;
    }
    of_block[b] = most;
  };
  parallel_for(blocks, block, executor, 1);
  Bits most = 0;
  for (const Bits bits : of_block) most = std::max(most, bits);
  T value;
  std::memcpy(&value, &most, sizeof value);
  return double(value);
}

}  // namespace pyimplicit
