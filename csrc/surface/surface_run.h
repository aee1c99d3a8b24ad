// Where surface queries run: the plain bodies on the GPU, their SIMD twin on the CPU.
#pragma once

#include "base/parallel.h"
#include "surface/surface.h"
#include "surface/surface_batch.h"

namespace pyimplicit {

#if defined(__CUDACC__)

template <typename Query>
void run_query(const Query& query, int64_t count, bool /*plain*/, Executor executor) {
  parallel_for(count, query, executor);
}

template <typename T>
void run_surface_batch(const SurfaceBatchQuery<T>& query, int64_t batch, Executor executor) {
  parallel_for(batch * query.each, query, executor);
}

#else

// Some of a query's points, one behind the other, that were drawn in one way.
struct QueryPart {
  int64_t first, count;
  bool by_leaf;  // whether all have a `first_leaf`, and are best answered in its order
};

// Runs a SurfaceQuery, WindingNumber or Contains, for float or double; in surface_cpu.cpp. `plain` runs the body of
// surface.h instead of the twin: the tests compare the two.
template <typename Query>
void run_query(const Query& query, int64_t count, bool plain, Executor executor);

// The twin for points of several parts, `leaves` the number of the hierarchy's; in the order of leaves where there are
// less than 2^31 points. Also in surface_cpu.cpp.
void run_query_in_parts(const SurfaceQuery<float>& query, const QueryPart* parts, int64_t part_count, int64_t leaves,
                        Executor executor);

template <typename T>
void run_surface_batch(const SurfaceBatchQuery<T>& query, int64_t batch, Executor executor) {
  parallel_rows(batch, [&](int64_t b, Executor own) { run_query(query.row(b), query.each, false, own); }, executor);
}

#endif

}  // namespace pyimplicit
