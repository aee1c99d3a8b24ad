// Eight floats side by side: AVX2 where this header is included for it, else what the compiler makes of it (two SSE or
// NEON registers). Included once for each instruction set, inside a namespace of its own: see surface_simd.h.

typedef float F8 __attribute__((vector_size(32)));
typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I8 __attribute__((vector_size(32)));

inline F8 load8(const float* p) {
  F8 v;
  std::memcpy(&v, p, sizeof v);  // one unaligned load
  return v;
}

inline I8 load8(const int32_t* p) {
  I8 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <typename Lane, typename Eight>
inline void store8(Lane* p, Eight v) {
  static_assert(sizeof v == 8 * sizeof(Lane), "eight lanes");
  std::memcpy(p, &v, sizeof v);
}

inline F4 load4(const float* p) {
  F4 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline F8 splat(float x) { return F8{x, x, x, x, x, x, x, x}; }

#if defined(PIM_SIMD_AVX2)
// For each choice of lanes, where the n-th chosen one is, a byte each.
struct PackedPlaces {
  uint64_t of[256] = {};
  constexpr PackedPlaces() {
    for (unsigned chosen = 0; chosen < 256; ++chosen) {
      int n = 0;
      for (int lane = 0; lane < 8; ++lane) {
        if (chosen >> lane & 1) of[chosen] |= uint64_t(lane) << (8 * n++);
      }
    }
  }
};
constexpr PackedPlaces kPackedPlaces;

inline F8 min8(F8 a, F8 b) { return F8(_mm256_min_ps(__m256(a), __m256(b))); }
inline F8 max8(F8 a, F8 b) { return F8(_mm256_max_ps(__m256(a), __m256(b))); }
inline F8 sqrt8(F8 a) { return F8(_mm256_sqrt_ps(__m256(a))); }
// 1 / sqrt(a) to the last bit or two: the processor's estimate, and one step of Newton's method.
inline F8 inverse_sqrt8(F8 a) {
  const F8 guess = F8(_mm256_rsqrt_ps(__m256(a)));
  return guess * (1.5f - 0.5f * a * guess * guess);
}
inline F8 select8(I8 mask, F8 a, F8 b) { return F8(_mm256_blendv_ps(__m256(b), __m256(a), __m256(mask))); }
inline unsigned bits_of(I8 mask) { return unsigned(_mm256_movemask_ps(__m256(mask))); }

// One number: an instruction, of which no compiler makes a branch.
inline float lesser(float a, float b) { return _mm_cvtss_f32(_mm_min_ss(_mm_set_ss(a), _mm_set_ss(b))); }
// Smallest lane, in three halvings.
inline float least(F8 a) {
  __m128 m = _mm_min_ps(_mm256_castps256_ps128(__m256(a)), _mm256_extractf128_ps(__m256(a), 1));
  m = _mm_min_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_min_ss(m, _mm_shuffle_ps(m, m, 1)));
}
// Moves the chosen lanes to the front, in their order.
struct Packing {
  __m256i places;
  explicit Packing(unsigned chosen)
      : places(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(int64_t(kPackedPlaces.of[chosen])))) {}
  F8 apply(F8 a) const { return F8(_mm256_permutevar8x32_ps(__m256(a), places)); }
  I8 apply(I8 a) const { return I8(_mm256_permutevar8x32_epi32(__m256i(a), places)); }
};
#else
struct Packing {
  int places[8] = {};
  explicit Packing(unsigned chosen) {
    for (int n = 0; chosen != 0; chosen &= chosen - 1) places[n++] = __builtin_ctz(chosen);
  }
  template <typename Eight>
  Eight apply(Eight a) const {
    Eight packed;
    for (int i = 0; i < 8; ++i) packed[i] = a[places[i]];
    return packed;
  }
};
inline float lesser(float a, float b) { return a < b ? a : b; }
inline F8 min8(F8 a, F8 b) { return a < b ? a : b; }
inline F8 max8(F8 a, F8 b) { return a > b ? a : b; }
inline F8 select8(I8 mask, F8 a, F8 b) { return mask ? a : b; }
inline F8 sqrt8(F8 a) {
  for (int i = 0; i < 8; ++i) a[i] = std::sqrt(a[i]);
  return a;
}
inline F8 inverse_sqrt8(F8 a) { return 1.0f / sqrt8(a); }
inline unsigned bits_of(I8 mask) {
  unsigned bits = 0;
  for (int i = 0; i < 8; ++i) bits |= (unsigned(mask[i]) >> 31) << i;
  return bits;
}
inline float least(F8 a) {
  float m = a[0];
  for (int i = 1; i < 8; ++i) m = a[i] < m ? a[i] : m;
  return m;
}
#endif

// All lanes the same as one of four.
template <int lane>
inline F8 splat_lane(F4 a) {
#if defined(PIM_SIMD_AVX2)
  return F8(_mm256_broadcastss_ps(_mm_permute_ps(__m128(a), lane * 0x55)));
#else
  return splat(a[lane]);
#endif
}

inline float sum8(F8 a) {
  float s = 0;
  for (int i = 0; i < 8; ++i) s += a[i];
  return s;
}
