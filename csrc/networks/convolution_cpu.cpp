// Convolution on the CPU: convolution_simd.h, compiled for each instruction set and chosen at run time.
#include <cstring>
#include <type_traits>
#include <vector>

#include "base/instruction_set.h"
#include "networks/convolution.h"

#if defined(PIM_HAVE_AVX2)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512")
#define PIM_LANES 16
namespace pyimplicit::avx512::convolution {
#include "networks/convolution_simd.h"
}
#undef PIM_LANES
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define PIM_LANES 8
namespace pyimplicit::avx2::convolution {
#include "networks/convolution_simd.h"
}
#undef PIM_LANES
#pragma GCC pop_options
#endif

#define PIM_LANES 4
namespace pyimplicit::baseline::convolution {
#include "networks/convolution_simd.h"
}

namespace pyimplicit {

namespace {

// Kept by each thread: fresh pages would cost more than what is done in them.
float* work_memory(const TiledGrids& shape) {
  static thread_local std::vector<float> memory;
  if (int64_t(memory.size()) < shape.work_size()) memory.resize(shape.work_size());
  return memory.data();
}

}  // namespace

void run_convolution(const ConvolveGrids& kernel, int lanes, Executor executor) {
  const int used = lanes_to_use(lanes);
  const auto piece = [&](int64_t index) {
    float* const memory = work_memory(kernel.shape);
#if defined(PIM_HAVE_AVX2)
    if (used == 16) return avx512::convolution::run_piece(kernel, index, memory);
    if (used == 8) return avx2::convolution::run_piece(kernel, index, memory);
#endif
    (void)used;
    baseline::convolution::run_piece(kernel, index, memory);
  };
  parallel_for(kernel.shape.pieces(), piece, executor, 1);
}

void run_convolution(const ConvolutionGradients& kernel, int lanes, Executor executor) {
  const int used = lanes_to_use(lanes);
  const int64_t size = kernel.part_size(), parts = kernel.parts();
  std::vector<std::vector<float>> sums(parts);
  const auto add = [&](int64_t index, float* to) {
    float* const memory = work_memory(kernel.shape);
#if defined(PIM_HAVE_AVX2)
    if (used == 16) return avx512::convolution::add_piece(kernel, index, memory, to);
    if (used == 8) return avx2::convolution::add_piece(kernel, index, memory, to);
#endif
    (void)used;
    baseline::convolution::add_piece(kernel, index, memory, to);
  };
  const auto part = [&](int64_t first) {
    sums[first].resize(size);
    for (int64_t i = first; i < kernel.shape.pieces(); i += parts) add(i, sums[first].data());
  };
  parallel_for(parts, part, executor, 1);
  const int64_t of_kernels = size - kernel.shape.out;
  const auto add_up = [&](int64_t at) {
    double sum = 0;
    for (int64_t k = 0; k < parts; ++k) sum += sums[k][at];
    (at < of_kernels ? kernel.kernels[at] : kernel.bias[at - of_kernels]) = float(sum);
  };
  parallel_for(size, add_up, executor, 16384);
}

}  // namespace pyimplicit
