// Weighted choice without replacement on the CPU, all rounds in one call; pyimplicit/ops/linear_weights.py says what a
// round is, and does the same for the GPU with sorts.
#pragma once

#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "sampling/linear_weights.h"

namespace pyimplicit {

template <typename T>
void choose_distinct(const T* weights, int64_t count, double* sums, RandomStream stream, int64_t wanted,
                     int64_t* chosen, Executor executor) {
  const TreeLevels levels(count);
  std::vector<uint64_t> taken(levels.nodes[0]);
  std::vector<int64_t> drawn(wanted), changed;
  int64_t found = 0, first = 0;
  for (;;) {
    const int64_t draws = wanted - found;
    const DrawFromTree<T> draw = {weights, count, sums, found == 0 ? nullptr : taken.data(), levels, stream, first,
                                  drawn.data()};
    parallel_for(draws, draw, executor, 256);
    first += draws;
    changed.clear();
    for (int64_t i = 0; i < draws; ++i) {
      const int64_t node = drawn[i] / kChildren;
      const uint64_t bit = uint64_t(1) << (drawn[i] % kChildren);
      if ((taken[node] & bit) != 0) continue;
      taken[node] |= bit;
      chosen[found++] = drawn[i];
      changed.push_back(node);
    }
    if (found == wanted) return;
    const auto each_changed = [&](const auto& sum) {  // the nodes of a level, once each
      std::sort(changed.begin(), changed.end());
      changed.erase(std::unique(changed.begin(), changed.end()), changed.end());
      parallel_for(int64_t(changed.size()), sum, executor, 256);
    };
    each_changed([&](int64_t i) {
      const int64_t begin = kChildren * changed[i];
      sums[changed[i]] = sum_children(weights + begin, std::min(kChildren, count - begin), taken[changed[i]]);
    });
    for (int level = 1; level < levels.count; ++level) {
      for (int64_t& node : changed) node /= kChildren;
      const SumNodes sum = {sums + levels.first[level - 1], levels.nodes[level - 1], sums + levels.first[level]};
      each_changed([&](int64_t i) { sum(changed[i]); });
    }
  }
}

}  // namespace pyimplicit
