// Indices in the order of keys: a radix sort on several threads.
#pragma once

#include <cstdint>

#include "base/parallel.h"

#if !defined(__CUDACC__)
#include <algorithm>
#include <vector>

namespace pyimplicit {

constexpr int64_t kSortBlock = 8192;  // elements that are worth a thread

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

}  // namespace pyimplicit

#endif
