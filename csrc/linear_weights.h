// Linear weights of the distance to the surface, and weighted choice from a pool of candidates.
#pragma once

#include "philox.h"
#include "random.h"

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

// Choice with replacement: the candidate at a uniform place of the running sum of the weights.
struct ChooseWithReplacement {
  const double* cumulative;  // [N] running sum of the weights
  int64_t count;
  RandomStream stream;
  // outputs
  int64_t* chosen;  // [n]

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Words4 words = stream.words(i);
    chosen[i] = pick(cumulative, count, uniform53(words.w[0], words.w[1]) * cumulative[count - 1]);
  }
};

// Keys whose `count` smallest are a weighted choice without replacement: exponential arrival times of rate w.
// Source: Efraimidis and Spirakis, "Weighted Random Sampling with a Reservoir", 2006, algorithm A-ES, in logarithms.
template <typename T>
struct RaceKeys {
  const T* weights;  // [N] not negative
  RandomStream stream;
  // outputs
  double* keys;  // [N] infinite where the weight is 0

  PIM_HOST_DEVICE void operator()(int64_t i) const {
    const Words4 words = stream.words(i);
    const double unit = uniform53(words.w[0], words.w[1]);
    // log1p keeps the smallest arrival times exact. The largest double stands for the overflow of a tiny weight, so
    // that a candidate of any weight comes before one of none.
    keys[i] = weights[i] > T(0) ? std::fmin(-std::log1p(-unit) / double(weights[i]), 1.7976931348623157e308) : INFINITY;
  }
};

}  // namespace pyimplicit
