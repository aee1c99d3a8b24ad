// Farthest points and nearest neighbours on the CPU: points_simd.h, compiled for each instruction set and chosen at run
// time. Compiled without fused multiply-adds, so that distances compare as in the plain bodies.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "base/instruction_set.h"
#include "base/morton.h"
#include "points/farthest.h"
#include "points/neighbours.h"

#if defined(PIM_HAVE_AVX2)
#pragma GCC push_options
#pragma GCC target("avx2")
#define PIM_SIMD_AVX2
namespace pyimplicit::avx2 {
#include "points/points_simd.h"
}
#undef PIM_SIMD_AVX2
#pragma GCC pop_options
#endif

namespace pyimplicit::baseline {
#include "points/points_simd.h"
}

namespace pyimplicit {

namespace {

constexpr int64_t kQueries = 128;  // that one thread answers in a row

template <typename Blocks, typename Search>
void search_all(const NearestNeighbours<float>& kernel, int64_t batch, Executor executor, const Search& search) {
  std::vector<std::unique_ptr<const Blocks>> sorted(batch);
  const auto sort = [&](int64_t b) {
    sorted[b] = std::make_unique<const Blocks>(kernel.cloud + 3 * kernel.each * b, kernel.each);
  };
  parallel_for(batch, sort, executor, 1);
  const int64_t pieces = (kernel.query_count + kQueries - 1) / kQueries;
  const auto piece = [&](int64_t i) {
    const int64_t b = i / pieces, begin = i % pieces * kQueries, end = std::min(kernel.query_count, begin + kQueries);
    search(kernel, *sorted[b], b * kernel.query_count + begin, b * kernel.query_count + end);
  };
  parallel_for(batch * pieces, piece, executor, 1);
}

}  // namespace

void farthest_points_simd(const FarthestPoints<float>& kernel, int64_t batch, Executor executor) {
  const bool use_avx2 = have_avx2();
  const auto cloud = [&](int64_t b) {
#if defined(PIM_HAVE_AVX2)
    if (use_avx2) return avx2::farthest_points_of(kernel, b);
#endif
    baseline::farthest_points_of(kernel, b);
  };
  (void)use_avx2;
  parallel_for(batch, cloud, executor, 1);
}

void nearest_neighbours_simd(const NearestNeighbours<float>& kernel, int64_t batch, Executor executor) {
#if defined(PIM_HAVE_AVX2)
  if (have_avx2()) {
    return search_all<avx2::PointBlocks>(kernel, batch, executor, [](const auto&... all) {
      avx2::nearest_neighbours_of(all...);
    });
  }
#endif
  search_all<baseline::PointBlocks>(kernel, batch, executor, [](const auto&... all) {
    baseline::nearest_neighbours_of(all...);
  });
}

}  // namespace pyimplicit
