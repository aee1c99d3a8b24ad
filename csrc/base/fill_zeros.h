// Zeros for large arrays that are used again: past the caches, which then need not fetch what is overwritten, unless
// they could still hold the array when its sums are written.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/parallel.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace pyimplicit {

constexpr int64_t kKeptInCaches = int64_t(1) << 24;  // bytes

inline void fill_zeros(char* memory, int64_t bytes, Executor executor) {
  constexpr int64_t kPiece = int64_t(1) << 20;
  const auto piece = [&](int64_t i) {
    char* at = memory + i * kPiece;
    char* end = memory + std::min(bytes, (i + 1) * kPiece);
#if defined(__SSE2__)
    if (bytes > kKeptInCaches) {
      for (; at < end && reinterpret_cast<std::uintptr_t>(at) % 64 != 0; ++at) *at = 0;
      for (; at + 64 <= end; at += 64) {
        for (int k = 0; k < 4; ++k) _mm_stream_si128(reinterpret_cast<__m128i*>(at) + k, _mm_setzero_si128());
      }
      _mm_sfence();
    }
#endif
    std::memset(at, 0, size_t(end - at));
  };
  parallel_for((bytes + kPiece - 1) / kPiece, piece, executor, 1);
}

}  // namespace pyimplicit
