// Linear weights of the distance to the surface, and weighted choice from a pool of candidates.
//
// Choice goes down a tree of sums in float64, 64 children a node: the weights are read once, there is no running sum of
// all of them, and a weight that was taken out changes a node on each level. A sum is always added up in the same
// order, so the choice is the same on any number of threads and any device.
#pragma once

#include "base/philox.h"
#include "base/vec3.h"

namespace pyimplicit {

// w = mu (tau - g) for g <= tau, else 0. NaN stays NaN.
// Source: Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-A, equation 2.
template <typename T>
struct LinearWeights {
  const T* distance;  // [N] mesh units, not negative
  T tau, mu;
  // outputs
  T* weights;  // [N]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const T g = distance[i];
    weights[i] = g > tau ? T(0) : mu * (tau - g);
  }
};

constexpr int64_t kChildren = 64;

// Sum of up to 64 values: eight interleaved sums, then those. `taken` holds a bit for each value that does not count.
template <typename T>
PIM_HOST_DEVICE inline double sum_children(const T* values, int64_t count, uint64_t taken) {
  double lanes[8] = {};
  if (count == kChildren && taken == 0) {
    for (int k = 0; k < 8; ++k) {
      for (int j = 0; j < 8; ++j) lanes[j] += double(values[8 * k + j]);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) lanes[i % 8] += taken >> i & 1 ? 0.0 : double(values[i]);
  }
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// Level 0 of the tree, and what is to be known of the weights besides.
template <typename T>
struct SumWeights {
  const T* weights;  // [N]
  int64_t count;
  // outputs
  double* sums;       // [N / 64, rounded up]
  uint8_t* positive;  // how many of the 64 are above 0; 255 if one is negative or their sum is none

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const T* values = weights + kChildren * i;
    const int64_t here = count - kChildren * i < kChildren ? count - kChildren * i : kChildren;
    const double sum = sum_children(values, here, 0);
    sums[i] = sum;
    int above, below;
    if (here == kChildren) {
      count_signs(values, int(kChildren), above, below);  // a number of passes that the compiler knows
    } else {
      count_signs(values, int(here), above, below);
    }
    positive[i] = below == 0 && sum - sum == 0 ? uint8_t(above) : uint8_t(255);
  }

 private:
  PIM_HOST_DEVICE static void count_signs(const T* values, int here, int& above, int& below) {
    above = below = 0;
    for (int k = 0; k < here; ++k) above += values[k] > T(0);
    for (int k = 0; k < here; ++k) below += values[k] < T(0);
  }
};

// A level of the tree above level 0.
struct SumNodes {
  const double* below;  // [count]
  int64_t count;
  // outputs
  double* sums;  // [count / 64, rounded up]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t left = count - kChildren * i;
    sums[i] = sum_children(below + kChildren * i, left < kChildren ? left : kChildren, 0);
  }
};

// The levels of the tree, one behind the other, up to a single node.
constexpr int kMostLevels = 11;

struct TreeLevels {
  int64_t first[kMostLevels], nodes[kMostLevels];
  int count;

  PIM_HOST_DEVICE explicit TreeLevels(int64_t weights) : count(0) {
    int64_t before = 0, size = weights;
    do {
      size = (size + kChildren - 1) / kChildren;
      first[count] = before;
      nodes[count++] = size;
      before += size;
    } while (size > 1);
  }
};

// Draws from the weights that are not taken, with replacement.
template <typename T>
struct DrawFromTree {
  const T* weights;  // [N]
  int64_t count;
  const double* sums;     // all levels
  const uint64_t* taken;  // [N / 64] a bit for each weight; null: none is
  TreeLevels levels;
  RandomStream stream;
  int64_t first;  // index of the first draw in the stream
  // outputs
  int64_t* chosen;

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Words4 words = stream.words(first + i);
    double target = mul_rounded(uniform53(words.w[0], words.w[1]), sums[levels.first[levels.count - 1]]);
    int64_t node = 0;
    for (int level = levels.count - 2; level >= 0; --level) {
      const int64_t begin = kChildren * node, left = levels.nodes[level] - begin;
      node = begin + descend(sums + levels.first[level] + begin, left < kChildren ? left : kChildren, 0, target);
    }
    const int64_t begin = kChildren * node, left = count - begin;
    chosen[i] = begin + descend(weights + begin, left < kChildren ? left : kChildren,
                                taken == nullptr ? 0 : taken[node], target);
  }

 private:
  // The child in which the running sum passes `target`, which becomes what is left of it there. If rounding keeps the
  // sum from passing, the last child of any weight.
  template <typename U>
  PIM_HOST_DEVICE static int64_t descend(const U* values, int64_t count, uint64_t out, double& target) {
    double before = 0, before_last = 0;
    int64_t last = 0;
    for (int64_t k = 0; k < count; ++k) {
      const double value = out >> k & 1 ? 0.0 : double(values[k]);
      if (!(value > 0)) continue;
      last = k;
      before_last = before;
      before += value;
      if (before > target) break;
    }
    target -= before_last;
    return last;
  }
};

// Takes chosen weights out: marks them and makes the sums of level 0 anew. `sorted` holds indices in ascending order;
// the first of each node's does the work.
template <typename T>
struct TakeOut {
  const T* weights;  // [N]
  int64_t count;
  const int64_t* sorted;  // [n]
  int64_t sorted_count;
  // outputs
  uint64_t* taken;  // [N / 64]
  double* sums;     // level 0

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t node = sorted[i] / kChildren;
    if (i > 0 && sorted[i - 1] / kChildren == node) return;
    uint64_t out = taken[node];
    for (int64_t k = i; k < sorted_count && sorted[k] / kChildren == node; ++k) {
      out |= uint64_t(1) << (sorted[k] % kChildren);
    }
    taken[node] = out;
    const int64_t left = count - kChildren * node;
    sums[node] = sum_children(weights + kChildren * node, left < kChildren ? left : kChildren, out);
  }
};

// The sums of a level above those that changed.
struct UpdateNodes {
  const int64_t* sorted;  // [n]
  int64_t weights_a_node;
  const double* below;  // [count]
  int64_t count;
  // outputs
  double* sums;

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t node = sorted[i] / weights_a_node;
    if (i > 0 && sorted[i - 1] / weights_a_node == node) return;
    SumNodes{below, count, sums}(node);
  }
};

}  // namespace pyimplicit
