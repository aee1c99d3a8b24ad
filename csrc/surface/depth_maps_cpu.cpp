// Counting views on the CPU: count_views_simd.h, compiled for each instruction set and chosen at run time. Compiled
// without fused multiply-adds: the counts are those of the plain body.
#include <algorithm>
#include <cmath>

#include "base/instruction_set.h"
#include "surface/depth_maps_run.h"

#if defined(PIM_HAVE_AVX2)
#pragma GCC push_options
#pragma GCC target("avx2")
namespace pyimplicit::avx2 {
#include "surface/count_views_simd.h"
}
#pragma GCC pop_options
#endif

namespace pyimplicit::baseline {
#include "surface/count_views_simd.h"
}

namespace pyimplicit {

void run_count_views(const CountViews& kernel, int64_t count, bool plain, Executor executor) {
  if (plain || kernel.views.size * kernel.views.size > INT32_MAX) return parallel_for(count, kernel, executor, 256);
  const bool use_avx2 = have_avx2();
  const auto block = [&](int64_t i) {
    const int64_t first = i * baseline::kBlock;
    const int here = int(std::min<int64_t>(baseline::kBlock, count - first));
#if defined(PIM_HAVE_AVX2)
    if (use_avx2) return avx2::count_block(kernel, first, here);
#endif
    (void)use_avx2;
    baseline::count_block(kernel, first, here);
  };
  parallel_for((count + baseline::kBlock - 1) / baseline::kBlock, block, executor, 1);
}

}  // namespace pyimplicit
