// The numbers that one vector register holds, of any type the sums are made in, and how stored features become them.
// Part of interpolation_simd.h.

constexpr int kVectorBytes = PIM_VECTOR_BYTES;

template <typename T>
struct Vector {
  typedef T Lanes __attribute__((vector_size(kVectorBytes)));
  static constexpr int64_t kLanes = kVectorBytes / sizeof(T);
};
template <typename T>
using Lanes = typename Vector<T>::Lanes;

template <typename T, typename M>
inline Lanes<T> load(const M* from) {
  if constexpr (std::is_same_v<M, BFloat16>) {
    typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
    typedef uint32_t Wide __attribute__((vector_size(kVectorBytes)));
    Narrow bits;
    std::memcpy(&bits, from, sizeof bits);
    return Lanes<T>(__builtin_convertvector(bits, Wide) << 16);
  } else if constexpr (std::is_same_v<M, Float16>) {
#if PIM_VECTOR_BYTES == 64
    return Lanes<T>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(PIM_SIMD_AVX2)
    return Lanes<T>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
    Lanes<T> lanes;
    for (int i = 0; i < Vector<T>::kLanes; ++i) lanes[i] = T(from[i]);
    return lanes;
#endif
  } else {
    static_assert(std::is_same_v<M, T>, "stored as it is computed with");
    Lanes<T> lanes;
    std::memcpy(&lanes, from, sizeof lanes);
    return lanes;
  }
}

template <typename T>
inline void store(T* to, Lanes<T> lanes) {
  std::memcpy(to, &lanes, sizeof lanes);
}

template <typename T>
inline T sum_of(Lanes<T> lanes) {
  T sum = 0;
  for (int i = 0; i < Vector<T>::kLanes; ++i) sum += lanes[i];
  return sum;
}
