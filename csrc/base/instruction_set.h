// Which instruction sets a kernel can be compiled for beside the plain one, and which of them this processor has.
//
// A file includes its kernels once for each set that it wants, between `#pragma GCC push_options`, `target(...)` and
// `pop_options` in a namespace of its own, with a macro defined that says which, and once plain.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define PIM_HAVE_AVX2
#include <immintrin.h>
#endif

namespace pyimplicit {

// Whether vectors of so many numbers may be used: the environment's PYIMPLICIT_LANES, 4 or 8, has this processor pass for
// an older one. So the tests see what runs there.
inline bool may_use(int lanes) {
  const char* const most = std::getenv("PYIMPLICIT_LANES");
  return most == nullptr || *most == '\0' || lanes <= std::atoi(most);
}

inline bool have_avx2() {
#if defined(PIM_HAVE_AVX2)
  static const bool have =
      may_use(8) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  return have;
#else
  return false;
#endif
}

inline bool have_avx512() {
#if defined(PIM_HAVE_AVX2)
  static const bool have = may_use(16) && have_avx2() && __builtin_cpu_supports("avx512f") &&
                           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512bw");
  return have;
#else
  return false;
#endif
}

// Numbers of the longest vectors of float that this processor has.
inline int vector_lanes() { return have_avx512() ? 16 : have_avx2() ? 8 : 4; }

// `lanes`, or the most there are for 0.
inline int lanes_to_use(int lanes) {
  const int most = vector_lanes();
  if (lanes > most) throw std::runtime_error("this processor has no vectors of " + std::to_string(lanes) + " numbers");
  return lanes > 0 ? lanes : most;
}

}  // namespace pyimplicit
