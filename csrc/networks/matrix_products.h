// The matrix products of a linear layer and of its gradients, in float32 to full precision on a matrix unit that takes
// bfloat16: a number is the sum of three, and of the nine products of two such sums the six that count are taken. On
// CPUs with AMX only.
//
// Source: Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
// Computations", ARITH 2019, section II.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/parallel.h"

namespace pyimplicit {

// results = rows * matrix + bias. Numbers of rows count where `gate`, if there is one, is above 0.
struct RowProducts {
  int64_t count, in, out;
  const float* rows;    // [count, in]
  const float* gate;    // [count, in], or null
  const float* matrix;  // [out, in], or [in, out] if `turned`
  bool turned;
  const float* bias;  // [out], or null
  bool relu;          // of the results
  // outputs
  float* results;  // [count, out]

  // Rows are worked on in pieces: a piece, and what it makes of a block of the matrix, stay in the second cache.
  static constexpr int64_t kRows = 128;
  int64_t pieces() const { return (count + kRows - 1) / kRows; }
};

// weight = gradients^T * rows, bias = sum of the gradients, which count where `gate` is above 0.
struct WeightProducts {
  int64_t count, in, out;
  const float* gradients;  // [count, out]
  const float* gate;       // [count, out], or null
  const float* rows;       // [count, in]
  // outputs
  float* weight;  // [out, in]
  float* bias;    // [out]

  // A task makes one block of the weight from one part of the rows. Neither depends on the number of threads, so
  // neither does the sum.
  static constexpr int64_t kBlock = 256, kRows = 128, kParts = 16;
  int64_t blocks_in() const { return (in + kBlock - 1) / kBlock; }
  int64_t blocks_out() const { return (out + kBlock - 1) / kBlock; }
  int64_t blocks() const { return blocks_in() * blocks_out(); }
  int64_t chunks() const { return (count + kRows - 1) / kRows; }
  int64_t parts() const {
    if (blocks() >= kParts) return 1;
    return chunks() >= 4 * kParts ? kParts : std::max<int64_t>(1, std::min(kParts / 2, chunks() / 2));
  }
};

// Whether this processor can run them.
bool have_matrix_unit();

void run_products(const RowProducts& products, Executor executor);
void run_products(const WeightProducts& products, Executor executor);

}  // namespace pyimplicit
