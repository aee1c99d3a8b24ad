// Vector attention on the CPU: vector_attention_simd.h, compiled for each instruction set and chosen at run time.
#include "networks/vector_attention.h"

#include <algorithm>
#include <cstring>

#include "base/instruction_set.h"

#if defined(PIM_HAVE_AVX2)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512")
#define PIM_LANES 16
namespace pyimplicit::avx512::attention {
#include "networks/vector_attention_simd.h"
}
#undef PIM_LANES
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define PIM_LANES 8
namespace pyimplicit::avx2::attention {
#include "networks/vector_attention_simd.h"
}
#undef PIM_LANES
#pragma GCC pop_options
#endif

#define PIM_LANES 4
namespace pyimplicit::baseline::attention {
#include "networks/vector_attention_simd.h"
}

namespace pyimplicit {

namespace {

template <typename Kernel>
void run_points(const Kernel& kernel, int lanes, Executor executor) {
  const int used = lanes_to_use(lanes);
  const auto run = [&](int64_t point) {
#if defined(PIM_HAVE_AVX2)
    if (used == 16) return avx512::attention::run_point(kernel, point);
    if (used == 8) return avx2::attention::run_point(kernel, point);
#endif
    (void)used;
    baseline::attention::run_point(kernel, point);
  };
  const Pairs& table = kernel.table;
  const int64_t each = std::max<int64_t>(1, table.neighbours * table.channels);
  parallel_for(table.shapes * table.points, run, executor, std::max<int64_t>(1, 16384 / each));
}

// Gradients are added up for the others of a shape. Channels are taken apart only where there are too few shapes for the
// threads; results are the same.
template <typename Kernel>
void run_blocks(const Kernel& kernel, const Pairs& table, int lanes, Executor executor) {
  const int used = lanes_to_use(lanes);
  constexpr int64_t kLeast = 64, kEach = 2;
  const int64_t wanted = kEach * int64_t(executor.handle) / std::max<int64_t>(table.shapes, 1);
  const int64_t blocks = std::max<int64_t>(1, std::min(wanted, table.channels / kLeast));
  const int64_t length = ((table.channels + blocks - 1) / blocks + 15) / 16 * 16;
  const auto run = [&](int64_t index) {
    const int64_t shape = index / blocks, first = index % blocks * length;
    const int64_t end = std::min(first + length, table.channels);
    if (first >= end) return;
#if defined(PIM_HAVE_AVX2)
    if (used == 16) return avx512::attention::run_block(kernel, shape, first, end);
    if (used == 8) return avx2::attention::run_block(kernel, shape, first, end);
#endif
    (void)used;
    baseline::attention::run_block(kernel, shape, first, end);
  };
  parallel_for(table.shapes * blocks, run, executor, 1);
}

}  // namespace

void run_attention(const PairSums& kernel, int lanes, Executor executor) { run_points(kernel, lanes, executor); }

void run_attention(const VectorAttention& kernel, int lanes, Executor executor) { run_points(kernel, lanes, executor); }

void run_attention(const PairSumGradients& kernel, int lanes, Executor executor) {
  run_blocks(kernel, kernel.table, lanes, executor);
}

void run_attention(const VectorAttentionGradients& kernel, int lanes, Executor executor) {
  run_blocks(kernel, kernel.attention.table, lanes, executor);
}

}  // namespace pyimplicit
