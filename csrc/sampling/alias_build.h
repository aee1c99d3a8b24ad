// Building the table of alias_table.h; in order, on one thread, so that it depends on the weights alone.
#pragma once

#include <cmath>
#include <vector>

#include "sampling/alias_table.h"

namespace pyimplicit {

// Returns the sum of the weights, which must be finite and not negative; without a positive sum nothing is written.
// `stride` counts bytes from entry to entry, for tables whose entries are part of something larger.
inline double build_alias_table(const double* weights, int64_t count, char* entries, int64_t stride) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += weights[i];
  if (!(total > 0) || !std::isfinite(total)) return total;
  const auto at = [&](int64_t i) -> AliasEntry& { return *reinterpret_cast<AliasEntry*>(entries + i * stride); };
  std::vector<double> rest(count);  // of each entry's weight, in units of the mean
  std::vector<int32_t> queue(count);  // entries below the mean from the front, the others from the back
  int64_t below = 0, above = count;
  for (int64_t i = 0; i < count; ++i) {
    rest[i] = weights[i] / total * double(count);
    queue[rest[i] < 1 ? below++ : --above] = int32_t(i);
  }
  int64_t taken = 0;
  while (taken < below && above < count) {
    const int32_t small = queue[taken++], large = queue[above];
    at(small) = {float(rest[small]), large};
    rest[large] -= 1 - rest[small];
    if (rest[large] < 1) {
      ++above;
      queue[below++] = large;  // the place that it has left, if no other is free
    }
  }
  // What is left differs from the mean by rounding only, but for entries of no weight, which must never be drawn.
  for (; above < count; ++above) at(queue[above]) = {1.0f, queue[above]};
  int32_t heaviest = 0;
  for (int64_t i = 1; i < count; ++i) heaviest = weights[i] > weights[heaviest] ? int32_t(i) : heaviest;
  for (; taken < below; ++taken) {
    const int32_t left = queue[taken];
    at(left) = {weights[left] > 0 ? 1.0f : 0.0f, heaviest};
  }
  return total;
}

}  // namespace pyimplicit
