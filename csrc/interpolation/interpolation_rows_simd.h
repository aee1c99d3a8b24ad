// The rows of points in memory: channels or displaced copies fastest, written past the caches or through them. Part of
// interpolation_simd.h.

#if defined(PIM_SIMD_AVX2)
// Eight rows of eight become eight columns.
inline void transpose8(__m256* r) {
  __m256 t[8], u[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}
#endif

// to[c * copies + k] = from[k * width + c]. `to` has room for eight more.
template <typename T>
inline void offsets_fastest(const T* from, int64_t copies, int64_t width, T* to) {
  int64_t c = 0;
#if defined(PIM_SIMD_AVX2)
  if constexpr (std::is_same_v<T, float>) {
    for (; copies <= 8 && c + 8 <= width; c += 8) {
      __m256 r[8];
      for (int k = 0; k < 8; ++k) r[k] = k < copies ? _mm256_loadu_ps(from + k * width + c) : _mm256_setzero_ps();
      transpose8(r);
      // Each store may spill into the place of the next, which then overwrites it.
      for (int i = 0; i < 8; ++i) _mm256_storeu_ps(to + (c + i) * copies, r[i]);
    }
  }
#endif
  for (; c < width; ++c) {
    for (int64_t k = 0; k < copies; ++k) to[c * copies + k] = from[k * width + c];
  }
}

// to[k * width + c] = from[c * copies + k], for `channels` channels; reads nothing at or behind `end`.
template <typename T, typename R>
inline void channels_fastest(const R* from, const R* end, int64_t copies, int64_t channels, T* to, int64_t width) {
  int64_t c = 0;
#if defined(PIM_SIMD_AVX2)
  if constexpr (std::is_same_v<R, float>) {
    for (; copies <= 8 && c + 8 <= channels && from + (c + 7) * copies + 8 <= end; c += 8) {
      __m256 r[8];
      for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(from + (c + i) * copies);
      transpose8(r);
      for (int k = 0; k < copies; ++k) _mm256_storeu_ps(to + k * width + c, r[k]);
    }
  }
#endif
  (void)end;
  for (; c < channels; ++c) {
    for (int64_t k = 0; k < copies; ++k) to[k * width + c] = T(from[c * copies + k]);
  }
}

// Writes numbers that nobody reads soon: past the caches, which then need not fetch what is overwritten.
template <typename T, typename R>
inline void write_row(const T* from, int64_t count, bool stream, R* to) {
  int64_t i = 0;
#if defined(PIM_SIMD_AVX2)
  if constexpr (std::is_same_v<T, R>) {
    constexpr int64_t n = Vector<T>::kLanes;
    if (stream) {
      for (; i < count && reinterpret_cast<std::uintptr_t>(to + i) % kVectorBytes != 0; ++i) to[i] = from[i];
      for (; i + n <= count; i += n) {
#if PIM_VECTOR_BYTES == 64
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
#else
        _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
#endif
      }
    }
  }
#endif
  (void)stream;
  for (; i < count; ++i) to[i] = R(from[i]);
}

inline void finish_streaming() {
#if defined(PIM_SIMD_AVX2)
  _mm_sfence();
#endif
}
