// What vector attention does with pairs: every point has some others it looks at, and to each pair belongs a row of channels.
// Weights of a pair are a softmax over the others, for each channel by itself. On the CPU only.
//
// Source: Zhao, Jiang, Jia, Torr and Koltun, "Point Transformer", ICCV 2021, section 3.1.
#pragma once

#include <cstdint>

#include "base/parallel.h"

namespace pyimplicit {

struct Pairs {
  int64_t shapes, points, others, neighbours, channels;
  const int64_t* index;  // [B, N, K], among the others of the shape; or null for all of them, K of them, in order

  // Index of pair `k` of point `point` (of all shapes) among the others of all shapes.
  int64_t other(int64_t point, int64_t k) const {
    return point / points * others + (index == nullptr ? k : index[point * neighbours + k]);
  }

};

// results = own + others + pairs
struct PairSums {
  Pairs table;
  const float* own;     // [B, N, C], or null
  const float* others;  // [B, M, C]
  const float* pairs;   // [B, N, K, C]
  // outputs
  float* results;  // [B, N, K, C]
};

struct PairSumGradients {
  Pairs table;
  const float* gradients;  // [B, N, K, C]
  // outputs
  float* of_own;     // [B, N, C], or null
  float* of_others;  // [B, M, C]
};

// results = sum over the others of softmax(weights) * (others + pairs); one more other may be the same for all points.
struct VectorAttention {
  Pairs table;
  const float* weights;       // [B, N, K, C]
  const float* others;        // [B, M, C], or null
  const float* pairs;         // [B, N, K, C]
  const float* extra_weight;  // [B, C], or null
  const float* extra_value;   // [B, C], or null
  // outputs
  float* results;  // [B, N, C]
  float* largest;  // [B, N, C], of the weights, or null
  float* sums;     // [B, N, C], of e^(weight - largest), or null
};

struct VectorAttentionGradients {
  VectorAttention attention;  // with all results
  const float* gradients;     // [B, N, C]
  // outputs
  float* of_weights;       // [B, N, K, C]
  float* of_pairs;         // [B, N, K, C]
  float* of_others;        // [B, M, C], or null
  float* of_extra_weight;  // [B, C], or null
  float* of_extra_value;   // [B, C], or null
};

// `lanes`: numbers to a vector; 0 for as many as the processor has.
void run_attention(const PairSums& kernel, int lanes, Executor executor);
void run_attention(const PairSumGradients& kernel, int lanes, Executor executor);
void run_attention(const VectorAttention& kernel, int lanes, Executor executor);
void run_attention(const VectorAttentionGradients& kernel, int lanes, Executor executor);

}  // namespace pyimplicit
