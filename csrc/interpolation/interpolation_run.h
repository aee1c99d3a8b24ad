// Where interpolation runs: the plain bodies on the GPU, their twin with vector loops on the CPU.
#pragma once

#include "base/parallel.h"
#include "interpolation/interpolation.h"

namespace pyimplicit {

#if defined(__CUDACC__)

template <typename M, typename R, int D>
void run_gather(const Sampling<M, R, D>& s, int64_t batch, int /*lanes*/, Executor executor) {
  parallel_for(batch * s.point_count * s.offset_count * s.blocks(s.sum), GatherFeatures<M, R, D>{s}, executor);
}

template <typename R, int D>
void run_scatter(const Sampling<typename AccumulatorOf<R>::Type, R, D>& s, int64_t batch, int /*lanes*/,
                 Executor executor) {
  parallel_for(batch * s.point_count * s.offset_count * s.blocks(false), ScatterAtomically<R, D>{{s}}, executor);
}

template <typename M, typename R, int D>
void run_slope(const Sampling<M, R, D>& s, int64_t batch, int /*lanes*/,
               typename AccumulatorOf<R>::Type* gradient, Executor executor) {
  parallel_for(batch * s.point_count, SlopeAtPoints<M, R, D>{s, gradient}, executor);
}

#else

// In interpolation_cpu.cpp. `lanes`: float32 numbers in a vector, 0 for what is fastest, 1 for the bodies of
// interpolation.h: the tests compare them.
template <typename M, typename R, int D>
void run_gather(const Sampling<M, R, D>& s, int64_t batch, int lanes, Executor executor);
template <typename R, int D>
void run_scatter(const Sampling<typename AccumulatorOf<R>::Type, R, D>& s, int64_t batch, int lanes,
                 Executor executor);
template <typename M, typename R, int D>
void run_slope(const Sampling<M, R, D>& s, int64_t batch, int lanes, typename AccumulatorOf<R>::Type* gradient,
               Executor executor);

#endif

}  // namespace pyimplicit
