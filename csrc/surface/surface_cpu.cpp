// Surface queries on the CPU: the twin of surface_simd.h, compiled for each instruction set and chosen at run time.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/instruction_set.h"
#include "base/key_order.h"
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

// Queries that one thread answers in a row, at most: long enough for the first of a chunk, which has no predecessor, not to
// matter.
constexpr int64_t kChunk = 512;
constexpr int64_t kSortFrom = 64;  // fewer queries are answered as they come

// `order` may be null: as they come. In about so many chunks, if there are few: more of them leave threads idle for less
// time at the end.
template <typename Query>
void answer_in_order(const Query& query, const int32_t* order, int64_t count, int64_t chunks, Executor executor) {
  const int64_t chunk = std::min(kChunk, std::max<int64_t>(64, (count + chunks - 1) / chunks));
  const auto piece = [&](int64_t index) {
    const int64_t begin = index * chunk, end = std::min(count, begin + chunk);
#if defined(PIM_HAVE_AVX2)
    if (have_avx2()) return avx2::answer(query, order, begin, end);
#endif
    baseline::answer(query, order, begin, end);
  };
  parallel_for((count + chunk - 1) / chunk, piece, executor, 1);
}

}  // namespace

template <typename Query>
void run_query(const Query& query, int64_t count, bool plain, Executor executor) {
  if (plain) return parallel_for(count, query, executor, 64);
  if (count <= 0) return;
  std::vector<int32_t> order;
  if (count >= kSortFrom && count <= INT32_MAX) order = morton_order(query.points, count, executor);
  answer_in_order(query, order.empty() ? nullptr : order.data(), count, 8, executor);
}

void run_query_in_parts(const SurfaceQuery<float>& query, const QueryPart* parts, int64_t part_count, int64_t leaves,
                        Executor executor) {
  const QueryPart& last = parts[part_count - 1];
  const int64_t total = last.first + last.count;
  if (total > INT32_MAX) return run_query(query, total, false, executor);
  std::vector<int32_t> order(total);
  const auto sort = [&](const QueryPart& part, Executor own) {
    int32_t* const at = order.data() + part.first;
    if (!part.by_leaf) {
      return morton_order(query.points + 3 * part.first, part.count, int32_t(part.first), at, own);
    }
    int bits = 0, shift = 0;
    while (leaves >> bits > 0) ++bits;
    while (bits - shift > 8 && int64_t(1) << (bits - shift) > 2 * part.count) ++shift;  // a point in every other place
    const int32_t* const leaf = query.first_leaf + part.first;
    const auto key_of = [&](int64_t i) { return uint32_t(leaf[i]) >> shift; };
    order_by_keys(part.count, bits - shift, key_of, int32_t(part.first), at, own);
  };
  bool small = true;
  for (int64_t k = 0; k < part_count; ++k) small = small && parts[k].count < 2 * kSortBlock;
  if (small && total >= kSortBlock / 2) {  // a thread to each part, where a part is not worth several
    parallel_for(part_count, [&](int64_t k) { sort(parts[k], Executor{-1, 1}); }, executor, 1);
  } else {
    for (int64_t k = 0; k < part_count; ++k) sort(parts[k], executor);
  }
  answer_in_order(query, order.data(), total, 32, executor);  // a point's own leaf does for a predecessor
}

template void run_query(const SurfaceQuery<float>&, int64_t, bool, Executor);
template void run_query(const SurfaceQuery<double>&, int64_t, bool, Executor);
template void run_query(const WindingNumber<float>&, int64_t, bool, Executor);
template void run_query(const WindingNumber<double>&, int64_t, bool, Executor);
template void run_query(const Contains<float>&, int64_t, bool, Executor);
template void run_query(const Contains<double>&, int64_t, bool, Executor);

}  // namespace pyimplicit
