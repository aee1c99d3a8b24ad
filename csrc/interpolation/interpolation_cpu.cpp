// Interpolation on the CPU: interpolation_simd.h, compiled for each instruction set and chosen at run time; how the
// work is cut into pieces. No sum depends on the number of threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "base/instruction_set.h"
#include "interpolation/interpolation_run.h"

namespace pyimplicit {

// Channels of a piece of work where a map's channels are far apart, and where they are next to each other.
constexpr int64_t kStridedBlock = 8;
constexpr int64_t kScatterBlock = 512;

struct ChannelRange {
  int map;
  int64_t first, last;
};

}  // namespace pyimplicit

#if defined(PIM_HAVE_AVX2)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,f16c,prefer-vector-width=512")
#define PIM_SIMD_AVX2
#define PIM_VECTOR_BYTES 64
namespace pyimplicit::avx512 {
#include "interpolation/interpolation_simd.h"
}
#undef PIM_VECTOR_BYTES
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define PIM_VECTOR_BYTES 32
namespace pyimplicit::avx2 {
#include "interpolation/interpolation_simd.h"
}
#undef PIM_VECTOR_BYTES
#undef PIM_SIMD_AVX2
#pragma GCC pop_options
#endif

#define PIM_VECTOR_BYTES 32
namespace pyimplicit::baseline {
#include "interpolation/interpolation_simd.h"
}
#undef PIM_VECTOR_BYTES

namespace pyimplicit {

namespace {

constexpr int64_t kPointsOfPiece = 128;
constexpr int64_t kStreamFrom = int64_t(1) << 24;  // bytes of a result that no cache would hold anyway
constexpr int64_t kSortFrom = 1000;                // points of a batch item
constexpr int64_t kSortMaps = int64_t(4) << 20;    // bytes of a batch item's maps: smaller ones stay in the caches
constexpr int64_t kGatherVisits = 2;               // corners of points to a node from which on gathering in order pays
constexpr int64_t kWide = 256;                     // numbers of a row, for vectors of 16 and for reading it once
constexpr int kSortBits = 4;                       // bits of a coordinate of the cells that points are sorted by

// Calls run(numbers of float32 in a vector) for rows of `width` numbers.
template <typename Run>
void with_best(int lanes, int64_t width, const Run& run) {
  const int used = lanes == 0 && width < kWide ? std::min(vector_lanes(), 8) : lanes_to_use(lanes);
#if defined(PIM_HAVE_AVX2)
  if (used == 16) return run(std::integral_constant<int, 16>());
  if (used == 8) return run(std::integral_constant<int, 8>());
#endif
  (void)used;
  run(std::integral_constant<int, 4>());
}

#if defined(PIM_HAVE_AVX2)
#define PIM_BEST(best, call)                             \
  do {                                                   \
    if constexpr (decltype(best)::value == 16) {         \
      avx512::call;                                      \
    } else if constexpr (decltype(best)::value == 8) {   \
      avx2::call;                                        \
    } else {                                             \
      baseline::call;                                    \
    }                                                    \
  } while (0)
#else
#define PIM_BEST(best, call) baseline::call
#endif

template <typename M, typename R, int D>
bool any_strided(const Sampling<M, R, D>& s) {
  for (int m = 0; m < s.map_count; ++m) {
    if (!s.maps[m].in_rows()) return true;
  }
  return false;
}

// The points of each batch item in the order of coarse cells along a Morton curve, so that neighbours in space follow
// each other; empty where that gains nothing. `least_visits`: corners of points to a node, on any map.
template <typename M, typename R, int D>
std::vector<int32_t> cell_order(const Sampling<M, R, D>& s, int64_t batch, int64_t least_visits, Executor executor) {
  const int64_t points = s.point_count;
  int64_t bytes = 0;
  bool returns = false;
  for (int m = 0; m < s.map_count; ++m) {
    bytes += s.maps[m].nodes() * s.maps[m].channels * int64_t(sizeof(M));
    returns = returns || s.visits() >= least_visits * s.maps[m].nodes();
  }
  if (points < kSortFrom || points > INT32_MAX || bytes < kSortMaps || !returns) return {};
  std::vector<int32_t> order(batch * points);
  const auto item = [&](int64_t b) {
    using T = typename Sampling<M, R, D>::T;
    constexpr int64_t cells = int64_t(1) << (D * kSortBits);
    constexpr int side = 1 << kSortBits;
    std::vector<uint16_t> key(points);
    std::vector<int32_t> next(cells + 1, 0);
    for (int64_t n = 0; n < points; ++n) {
      const T* point = s.points + s.place(0, b, n);
      unsigned morton = 0;
      for (int axis = 0; axis < D; ++axis) {
        const T along = (point[axis] + 1) * T(side / 2);
        const unsigned cell = along > 0 ? unsigned(std::min<T>(along, side - 1)) : 0;  // NaN goes to the first
        for (int bit = 0; bit < kSortBits; ++bit) morton |= (cell >> bit & 1) << (bit * D + axis);
      }
      key[n] = uint16_t(morton);
      ++next[morton + 1];
    }
    for (int64_t cell = 0; cell < cells; ++cell) next[cell + 1] += next[cell];
    for (int64_t n = 0; n < points; ++n) order[b * points + next[key[n]]++] = int32_t(n);
  };
  parallel_for(batch, item, executor, 1);
  return order;
}

// Where each group of ranges begins that is worked on together, point by point, and the end of the last: a row is then
// read in few long parts. Of maps that are summed those of the same channels, which read the same part. What is added to
// a node, and in which order, does not depend on the groups. `fewest` groups, if there are so many ranges.
std::vector<int64_t> group_ranges(const std::vector<ChannelRange>& ranges, bool together, bool sum, int64_t fewest) {
  int64_t most = 1;  // channels of a group
  for (const auto& range : ranges) most += together ? range.last - range.first : 0;
  std::vector<int64_t> begins;
  for (;; most /= 2) {
    begins.clear();
    int64_t channels = 0;
    for (size_t i = 0; i < ranges.size(); ++i) {
      const int64_t own = ranges[i].last - ranges[i].first;
      if (i == 0 || channels + own > most || (sum && ranges[i].first != ranges[i - 1].first)) {
        begins.push_back(int64_t(i));
        channels = 0;
      }
      channels += own;
    }
    if (most == 1 || int64_t(begins.size()) >= fewest) break;
  }
  begins.push_back(int64_t(ranges.size()));
  return begins;
}

}  // namespace

template <typename M, typename R, int D>
void run_gather(const Sampling<M, R, D>& s, int64_t batch, int lanes, Executor executor) {
  const int64_t points = s.point_count;
  if (batch == 0 || points == 0 || s.map_count == 0) return;
  if (lanes == 1) {
    return parallel_for(batch * points * s.offset_count * s.blocks(s.sum), GatherFeatures<M, R, D>{s}, executor, 1024);
  }
  with_best(lanes, s.row_point_stride, [&](auto best) {
    if (any_strided(s)) {
      const int64_t blocks = s.blocks(s.sum, kStridedBlock);
      const auto piece = [&](int64_t i) {
        int64_t first, last;
        int map;
        s.locate(i % blocks, kStridedBlock, &map, &first, &last);
        PIM_BEST(best, gather_strided(s, i / blocks, map, first, last));
      };
      return parallel_for(batch * blocks, piece, executor, 1);
    }
    const std::vector<int32_t> order = cell_order(s, batch, kGatherVisits, executor);
    const bool stream = batch * s.row_batch_stride * int64_t(sizeof(R)) >= kStreamFrom;
    const int64_t pieces = (points + kPointsOfPiece - 1) / kPointsOfPiece;
    const auto piece = [&](int64_t i) {
      const int64_t b = i / pieces, begin = i % pieces * kPointsOfPiece;
      PIM_BEST(best, gather_points(s, b, begin, std::min(points, begin + kPointsOfPiece),
                                   order.empty() ? nullptr : order.data() + b * points, stream));
    };
    parallel_for(batch * pieces, piece, executor, 1);
  });
}

template <typename R, int D>
void run_scatter(const Sampling<typename AccumulatorOf<R>::Type, R, D>& s, int64_t batch, int lanes,
                 Executor executor) {
  if (batch == 0 || s.point_count == 0 || s.map_count == 0) return;
  if (lanes == 1) return parallel_for(batch * s.blocks(false), ScatterInOrder<R, D>{{s}}, executor, 1);
  with_best(lanes, s.row_point_stride, [&](auto best) {
    const std::vector<int32_t> order = cell_order(s, batch, 0, executor);
    const R* rows_end = s.rows + batch * s.row_batch_stride;
    const bool strided = any_strided(s);
    const int64_t block_size = strided ? kStridedBlock : kScatterBlock, blocks = s.blocks(false, block_size);
    std::vector<ChannelRange> ranges(blocks);
    for (int64_t i = 0; i < blocks; ++i) s.locate(i, block_size, &ranges[i].map, &ranges[i].first, &ranges[i].last);
    // Short rows are soon read again, and what lies far apart in memory fits the caches better by itself.
    const bool together = s.row_point_stride >= kWide && (s.sum || s.point_map_stride == 0) && !strided;
    if (s.sum) {
      std::stable_sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    const std::vector<int64_t> groups = group_ranges(ranges, together, s.sum, 2 * int64_t(executor.handle) / batch);
    const int64_t count = int64_t(groups.size()) - 1;
    // Few ranges are cut into slabs, each with all points that touch it, so that more threads have something to do.
    int64_t slabs = s.point_count * s.offset_count < 256 ? 1 : std::max<int64_t>(1, 16 / (batch * blocks));
    for (int m = 0; m < s.map_count; ++m) slabs = std::min(slabs, std::max<int64_t>(1, s.maps[m].size[D - 1] / 8));
    const auto piece = [&](int64_t i) {
      const int64_t b = i / slabs / count, group = i / slabs % count;
      PIM_BEST(best, scatter_ranges(s, b, ranges.data() + groups[group], groups[group + 1] - groups[group], i % slabs,
                                    slabs, order.empty() ? nullptr : order.data() + b * s.point_count, rows_end));
    };
    parallel_for(batch * count * slabs, piece, executor, 1);
  });
}

template <typename M, typename R, int D>
void run_slope(const Sampling<M, R, D>& s, int64_t batch, int lanes, typename AccumulatorOf<R>::Type* gradient,
               Executor executor) {
  const int64_t points = s.point_count;
  if (batch == 0 || points == 0 || s.map_count == 0) return;
  if (lanes == 1) return parallel_for(batch * points, SlopeAtPoints<M, R, D>{s, gradient}, executor, 64);
  with_best(lanes, s.row_point_stride, [&](auto best) {
    const std::vector<int32_t> order = cell_order(s, batch, 0, executor);
    const R* rows_end = s.rows + batch * s.row_batch_stride;
    const int64_t pieces = (points + kPointsOfPiece - 1) / kPointsOfPiece;
    const auto piece = [&](int64_t i) {
      const int64_t b = i / pieces, begin = i % pieces * kPointsOfPiece;
      PIM_BEST(best, slope_points(s, b, begin, std::min(points, begin + kPointsOfPiece),
                                  order.empty() ? nullptr : order.data() + b * points, rows_end, gradient));
    };
    parallel_for(batch * pieces, piece, executor, 1);
  });
}

#define PIM_INSTANTIATE(S, D)                                                                                  \
  template void run_gather(const Sampling<S, S, D>&, int64_t, int, Executor);                                 \
  template void run_scatter<S, D>(const Sampling<AccumulatorOf<S>::Type, S, D>&, int64_t, int, Executor);     \
  template void run_slope(const Sampling<S, S, D>&, int64_t, int, AccumulatorOf<S>::Type*, Executor);
#define PIM_INSTANTIATE_BOTH(S) PIM_INSTANTIATE(S, 2) PIM_INSTANTIATE(S, 3)
PIM_INSTANTIATE_BOTH(float)
PIM_INSTANTIATE_BOTH(double)
PIM_INSTANTIATE_BOTH(BFloat16)
PIM_INSTANTIATE_BOTH(Float16)

}  // namespace pyimplicit
