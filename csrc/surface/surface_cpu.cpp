// Surface queries on the CPU: the twin of surface_simd.h, compiled for each instruction set and chosen at run time.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/instruction_set.h"
#include "base/morton.h"
#include "surface/surface_run.h"

#if defined(PIM_HAVE_AVX2)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define PIM_SIMD_AVX2
namespace pyimplicit::avx2 {
#include "surface/surface_simd.h"
}
#undef PIM_SIMD_AVX2
#pragma GCC pop_options
#endif

namespace pyimplicit::baseline {
#include "surface/surface_simd.h"
}

namespace pyimplicit {

namespace {

// Queries that one thread answers in a row. Fixed, so that the first guesses, and with them the last bits, never
// depend on the number of threads; long enough for the first of a chunk, which has no predecessor, not to matter.
constexpr int64_t kChunk = 512;
constexpr int64_t kSortFrom = 64;  // fewer queries are answered as they come

template <typename T, typename Answer>
void in_chunks(const T* points, int64_t count, Executor executor, const Answer& answer) {
  if (count <= 0) return;
  std::vector<int32_t> order;
  if (count >= kSortFrom && count <= INT32_MAX) order = morton_order(points, count, executor);
  const int64_t chunk = std::min(kChunk, std::max<int64_t>(64, count / 8));
  const auto piece = [&](int64_t index) {
    answer(order.empty() ? nullptr : order.data(), index * chunk, std::min(count, (index + 1) * chunk));
  };
  parallel_for((count + chunk - 1) / chunk, piece, executor, 1);
}

}  // namespace

template <typename Query>
void run_query(const Query& query, int64_t count, bool plain, Executor executor) {
  if (plain) return parallel_for(count, query, executor, 64);
  in_chunks(query.points, count, executor, [&](const int32_t* order, int64_t begin, int64_t end) {
#if defined(PIM_HAVE_AVX2)
    if (have_avx2()) return avx2::answer(query, order, begin, end);
#endif
    baseline::answer(query, order, begin, end);
  });
}

template void run_query(const SurfaceQuery<float>&, int64_t, bool, Executor);
template void run_query(const SurfaceQuery<double>&, int64_t, bool, Executor);
template void run_query(const WindingNumber<float>&, int64_t, bool, Executor);
template void run_query(const WindingNumber<double>&, int64_t, bool, Executor);
template void run_query(const Contains<float>&, int64_t, bool, Executor);
template void run_query(const Contains<double>&, int64_t, bool, Executor);

}  // namespace pyimplicit
