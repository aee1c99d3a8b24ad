// The kernels of channels.h for one piece, written for the compiler to take several numbers at a time. Included once for
// each instruction set, inside a namespace of its own: see channels_cpu.cpp.

constexpr int kChunk = 16;  // numbers of a line that are summed up in registers
constexpr int kLines = 16;  // lines whose sums float32 holds well enough; those go on in double precision

// As torch has it: NaN stays.
template <typename T>
inline T positive_part(T value) {
  return value <= 0 ? T(0) : value;
}

// Adds up first(i) and second(i) of all numbers of a piece, i counted from its first number, to sums [2, length], number by
// number of a line.
template <typename T, typename First, typename Second>
inline void add_lines(int64_t numbers, int64_t length, double* sums, const First& first, const Second& second) {
  for (int64_t begin = 0; begin < numbers; begin += kLines * length) {
    const int64_t end = std::min(numbers, begin + kLines * length);
    for (int64_t c = 0; c < length; c += kChunk) {
      const int64_t width = std::min<int64_t>(kChunk, length - c);
      T one[kChunk] = {}, two[kChunk] = {};
      for (int64_t line = begin + c; line < end; line += length) {
        if (width == kChunk && line + kChunk <= end) {
          for (int k = 0; k < kChunk; ++k) one[k] += first(line + k, c + k), two[k] += second(line + k, c + k);
        } else {
          for (int64_t k = 0; k < std::min(width, end - line); ++k) {
            one[k] += first(line + k, c + k), two[k] += second(line + k, c + k);
          }
        }
      }
      for (int64_t k = 0; k < width; ++k) sums[c + k] += one[k], sums[length + c + k] += two[k];
    }
  }
}

// `work` [2, line]: sums of value - reference and of its square; `reference` has the length of a line.
template <typename T, bool kRelu>
inline void add_moments(const T* values, int64_t numbers, int64_t length, const T* reference, double* work) {
  const auto moved = [&](int64_t i, int64_t c) {
    return (kRelu ? positive_part(values[i]) : values[i]) - reference[c];
  };
  add_lines<T>(numbers, length, work, moved, [&](int64_t i, int64_t c) {
    const T value = moved(i, c);
    return value * value;
  });
}

template <typename T, bool kRelu, bool kGate>
inline void add_products(const T* gradients, const T* values, const T* gate, int64_t numbers, int64_t length,
                         const T* center, double* work) {
  const auto gradient = [&](int64_t i, int64_t) { return kGate && gate[i] <= 0 ? T(0) : gradients[i]; };
  add_lines<T>(numbers, length, work, gradient, [&](int64_t i, int64_t c) {
    return gradient(i, c) * ((kRelu ? positive_part(values[i]) : values[i]) - center[c]);
  });
}

// Calls at(i, place in the line) for all numbers of a piece.
template <typename At>
inline void each_line(int64_t numbers, int64_t length, const At& at) {
  for (int64_t line = 0; line < numbers; line += length) {
    const int64_t here = std::min(length, numbers - line);
    for (int64_t k = 0; k < here; ++k) at(line + k, k);
  }
}

template <typename T, bool kRelu, bool kReluResult>
inline void map_affine(const T* __restrict__ values, int64_t numbers, int64_t length, const T* __restrict__ scale,
                       const T* __restrict__ shift, T* __restrict__ results) {
  each_line(numbers, length, [=](int64_t i, int64_t k) {
    const T value = scale[k] * (kRelu ? positive_part(values[i]) : values[i]) + shift[k];
    results[i] = kReluResult ? positive_part(value) : value;
  });
}

template <typename T, bool kRelu, bool kGate>
inline void map_gradient(const T* __restrict__ gradients, const T* __restrict__ values, const T* __restrict__ gate,
                         int64_t numbers, int64_t length, const T* __restrict__ scale, const T* __restrict__ slope,
                         const T* __restrict__ shift, T* __restrict__ results) {
  each_line(numbers, length, [=](int64_t i, int64_t k) {
    const T gradient = kGate && gate[i] <= 0 ? T(0) : gradients[i];
    const T result = scale[k] * gradient + (slope[k] * values[i] + shift[k]);
    results[i] = kRelu && values[i] <= 0 ? T(0) : result;
  });
}

// The kernels with their choices made known to the compiler. `lines` are factors repeated to the length of a line.
template <typename T>
inline void run_piece(const ChannelMoments<T>& kernel, int64_t first, int64_t numbers, int64_t length, const T* lines,
                      double* work) {
  const T* values = kernel.values + first;
  if (kernel.relu) return add_moments<T, true>(values, numbers, length, lines, work);
  add_moments<T, false>(values, numbers, length, lines, work);
}

template <typename T>
inline void run_piece(const ChannelProducts<T>& kernel, int64_t first, int64_t numbers, int64_t length, const T* lines,
                      double* work) {
  const T *gradients = kernel.gradients + first, *values = kernel.values + first, *gate = kernel.gate;
  if (gate == nullptr) {
    if (kernel.relu) return add_products<T, true, false>(gradients, values, gate, numbers, length, lines, work);
    return add_products<T, false, false>(gradients, values, gate, numbers, length, lines, work);
  }
  if (kernel.relu) return add_products<T, true, true>(gradients, values, gate + first, numbers, length, lines, work);
  add_products<T, false, true>(gradients, values, gate + first, numbers, length, lines, work);
}

template <typename T>
inline void run_piece(const ChannelAffine<T>& kernel, int64_t first, int64_t numbers, int64_t length, const T* lines) {
  const T *values = kernel.values + first, *scale = lines, *shift = lines + length;
  T* results = kernel.results + first;
  if (kernel.relu_result) {
    if (kernel.relu) return map_affine<T, true, true>(values, numbers, length, scale, shift, results);
    return map_affine<T, false, true>(values, numbers, length, scale, shift, results);
  }
  if (kernel.relu) return map_affine<T, true, false>(values, numbers, length, scale, shift, results);
  map_affine<T, false, false>(values, numbers, length, scale, shift, results);
}

template <typename T>
inline void run_piece(const ChannelAffineGradient<T>& kernel, int64_t first, int64_t numbers, int64_t length,
                      const T* lines) {
  const T *gradients = kernel.gradients + first, *values = kernel.values + first, *gate = kernel.gate;
  const T *scale = lines, *slope = lines + length, *shift = lines + 2 * length;
  T* results = kernel.results + first;
  if (gate == nullptr) {
    if (kernel.relu) {
      return map_gradient<T, true, false>(gradients, values, gate, numbers, length, scale, slope, shift, results);
    }
    return map_gradient<T, false, false>(gradients, values, gate, numbers, length, scale, slope, shift, results);
  }
  if (kernel.relu) {
    return map_gradient<T, true, true>(gradients, values, gate + first, numbers, length, scale, slope, shift, results);
  }
  map_gradient<T, false, true>(gradients, values, gate + first, numbers, length, scale, slope, shift, results);
}
