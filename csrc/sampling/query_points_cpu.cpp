// Query points on the CPU: query_points_simd.h, compiled for each instruction set and chosen at run time. Compiled without
// fused multiply-adds: the points are those of the plain body, to the last bit.
#include <algorithm>
#include <cmath>

#include "base/instruction_set.h"
#include "sampling/query_points_run.h"

#if defined(PIM_HAVE_AVX2)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,prefer-vector-width=512")
namespace pyimplicit::avx512 {
#include "sampling/query_points_simd.h"
}
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2")
namespace pyimplicit::avx2 {
#include "sampling/query_points_simd.h"
}
#pragma GCC pop_options
#endif

namespace pyimplicit::baseline {
#include "sampling/query_points_simd.h"
}

namespace pyimplicit {

void run_query_points(const DrawQueryPoints& kernel, int64_t batch, bool plain, Executor executor) {
  if (plain) return parallel_for(batch * kernel.each, kernel, executor, 1024);
  constexpr int64_t kPiece = 512;
  const int64_t pieces = (kernel.each + kPiece - 1) / kPiece;
  const int lanes = vector_lanes();
  const auto piece = [&](int64_t i) {
    const int64_t row = i / pieces, begin = i % pieces * kPiece, end = std::min(kernel.each, begin + kPiece);
#if defined(PIM_HAVE_AVX2)
    if (lanes == 16) return avx512::draw_points(kernel, row, begin, end);
    if (lanes == 8) return avx2::draw_points(kernel, row, begin, end);
#endif
    (void)lanes;
    baseline::draw_points(kernel, row, begin, end);
  };
  parallel_for(batch * pieces, piece, executor, 1);
}

}  // namespace pyimplicit
