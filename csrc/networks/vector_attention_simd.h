// The steps of vector_attention.h for one point, or for some channels of one shape. Included once for each instruction set,
// inside a namespace of its own, with PIM_LANES numbers to a vector: see vector_attention_cpu.cpp.

typedef float Wide __attribute__((vector_size(4 * PIM_LANES)));
typedef int32_t WideInt __attribute__((vector_size(4 * PIM_LANES)));
constexpr int64_t kLanes = PIM_LANES;

// A vector of the `count` channels from `from`; what is beyond is 0.
inline Wide load(const float* from, int64_t count) {
  Wide wide = {};
  if (count >= kLanes) {
    std::memcpy(&wide, from, sizeof wide);
  } else {
    for (int64_t i = 0; i < count; ++i) wide[i] = from[i];
  }
  return wide;
}

inline void store(float* to, Wide wide, int64_t count) {
  if (count >= kLanes) {
    std::memcpy(to, &wide, sizeof wide);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = wide[i];
  }
}

inline void add_to(float* to, Wide wide, int64_t count) { store(to, load(to, count) + wide, count); }

inline void clear(float* row, int64_t first, int64_t end) {
  for (int64_t c = first; c < end; ++c) row[c] = 0;
}

inline Wide larger(Wide a, Wide b) { return a > b ? a : b; }

// e^x for x <= 0, to 2 units in the last place: 2^n e^r with r at most half of ln 2 from 0.
inline Wide exponential(Wide x) {
  const Wide least = Wide{} - 87.0f;  // below, the result is none of full precision, and is made 0
  const Wide within = larger(x, least);
  const Wide magic = Wide{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to whole numbers
  const Wide shifted = within * 1.44269504f + magic;
  const Wide n = shifted - magic;
  const Wide r = (within - n * 0.693359375f) + n * 2.12194440e-4f;
  Wide sum = r * (1.0f / 720) + (1.0f / 120);
  sum = sum * r + (1.0f / 24);
  sum = sum * r + (1.0f / 6);
  sum = sum * r + 0.5f;
  sum = sum * (r * r) + (r + 1.0f);
  const WideInt power = (reinterpret_cast<WideInt>(shifted) << 23) + reinterpret_cast<WideInt>(sum);
  const Wide result = reinterpret_cast<Wide>(power);
  return x < least ? Wide{} : x == x ? result : x;
}

inline void run_point(const PairSums& kernel, int64_t point) {
  const Pairs& table = kernel.table;
  for (int64_t k = 0; k < table.neighbours; ++k) {
    const int64_t at = (point * table.neighbours + k) * table.channels;
    const float* const other = kernel.others + table.other(point, k) * table.channels;
    for (int64_t c = 0; c < table.channels; c += kLanes) {
      const int64_t count = table.channels - c;
      Wide sum = load(other + c, count) + load(kernel.pairs + at + c, count);
      if (kernel.own != nullptr) sum += load(kernel.own + point * table.channels + c, count);
      store(kernel.results + at + c, sum, count);
    }
  }
}

inline void run_block(const PairSumGradients& kernel, int64_t shape, int64_t first, int64_t end) {
  const Pairs& table = kernel.table;
  for (int64_t other = shape * table.others; other < (shape + 1) * table.others; ++other) {
    clear(kernel.of_others + other * table.channels, first, end);
  }
  for (int64_t point = shape * table.points; point < (shape + 1) * table.points; ++point) {
    for (int64_t c = first; c < end; c += kLanes) {
      const int64_t count = end - c;
      Wide sum = {};
      for (int64_t k = 0; k < table.neighbours; ++k) {
        const Wide gradient = load(kernel.gradients + (point * table.neighbours + k) * table.channels + c, count);
        sum += gradient;
        add_to(kernel.of_others + table.other(point, k) * table.channels + c, gradient, count);
      }
      if (kernel.of_own != nullptr) store(kernel.of_own + point * table.channels + c, sum, count);
    }
  }
}

// A point's results for up to `kChunk` vectors of channels: those from `c`, `count` of them.
constexpr int64_t kChunk = 4;

inline void run_chunk(const VectorAttention& kernel, int64_t point, int64_t c, int64_t count) {
  const Pairs& table = kernel.table;
  const int64_t shape = point / table.points, first = point * table.neighbours;
  const bool extra = kernel.extra_weight != nullptr;
  Wide largest[kChunk], sum[kChunk], value[kChunk];
  for (int64_t v = 0; v < kChunk; ++v) {
    const int64_t at = shape * table.channels + c + v * kLanes, left = count - v * kLanes;
    largest[v] = extra ? load(kernel.extra_weight + at, left) : Wide{} - __builtin_inff();
  }
  for (int64_t k = 0; k < table.neighbours; ++k) {
    const float* const weights = kernel.weights + (first + k) * table.channels + c;
    for (int64_t v = 0; v < kChunk; ++v) {
      const Wide weight = load(weights + v * kLanes, count - v * kLanes);
      // NaN stays: nothing is above it.
      largest[v] = weight > largest[v] || weight != weight ? weight : largest[v];
    }
  }
  for (int64_t v = 0; v < kChunk; ++v) {
    const int64_t at = shape * table.channels + c + v * kLanes, left = count - v * kLanes;
    sum[v] = extra ? exponential(load(kernel.extra_weight + at, left) - largest[v]) : Wide{};
    value[v] = extra ? sum[v] * load(kernel.extra_value + at, left) : Wide{};
  }
  for (int64_t k = 0; k < table.neighbours; ++k) {
    const int64_t at = (first + k) * table.channels + c;
    const float* const other = kernel.others == nullptr ? nullptr : kernel.others + table.other(point, k) * table.channels + c;
    for (int64_t v = 0; v < kChunk; ++v) {
      const int64_t left = count - v * kLanes, step = v * kLanes;
      const Wide power = exponential(load(kernel.weights + at + step, left) - largest[v]);
      Wide pair = load(kernel.pairs + at + step, left);
      if (other != nullptr) pair += load(other + step, left);
      sum[v] += power, value[v] += power * pair;
    }
  }
  for (int64_t v = 0; v < kChunk; ++v) {
    const int64_t at = point * table.channels + c + v * kLanes, left = count - v * kLanes;
    store(kernel.results + at, value[v] / sum[v], left);
    if (kernel.largest == nullptr) continue;
    store(kernel.largest + at, largest[v], left), store(kernel.sums + at, sum[v], left);
  }
}

inline void run_point(const VectorAttention& kernel, int64_t point) {
  const int64_t channels = kernel.table.channels;
  for (int64_t c = 0; c < channels; c += kChunk * kLanes) run_chunk(kernel, point, c, channels - c);
}

inline void run_block(const VectorAttentionGradients& kernel, int64_t shape, int64_t first, int64_t end) {
  const VectorAttention& attention = kernel.attention;
  const Pairs& table = attention.table;
  if (kernel.of_others != nullptr) {
    for (int64_t other = shape * table.others; other < (shape + 1) * table.others; ++other) {
      clear(kernel.of_others + other * table.channels, first, end);
    }
  }
  const bool extra = attention.extra_weight != nullptr;
  if (extra) {
    clear(kernel.of_extra_weight + shape * table.channels, first, end);
    clear(kernel.of_extra_value + shape * table.channels, first, end);
  }
  for (int64_t point = shape * table.points; point < (shape + 1) * table.points; ++point) {
    const int64_t of_point = point * table.channels, of_shape = shape * table.channels;
    for (int64_t c = first; extra && c < end; c += kLanes) {
      const int64_t count = end - c;
      const Wide power = exponential(load(attention.extra_weight + of_shape + c, count) -
                                     load(attention.largest + of_point + c, count));
      const Wide of_value = power / load(attention.sums + of_point + c, count) * load(kernel.gradients + of_point + c, count);
      const Wide from_mean = load(attention.extra_value + of_shape + c, count) - load(attention.results + of_point + c, count);
      add_to(kernel.of_extra_value + of_shape + c, of_value, count);
      add_to(kernel.of_extra_weight + of_shape + c, of_value * from_mean, count);
    }
    for (int64_t k = 0; k < table.neighbours; ++k) {
      const int64_t at = (point * table.neighbours + k) * table.channels, other = table.other(point, k) * table.channels;
      for (int64_t c = first; c < end; c += kLanes) {
        const int64_t count = end - c;
        const Wide power = exponential(load(attention.weights + at + c, count) - load(attention.largest + of_point + c, count));
        const Wide of_value = power / load(attention.sums + of_point + c, count) * load(kernel.gradients + of_point + c, count);
        Wide value = load(attention.pairs + at + c, count);
        if (kernel.of_others != nullptr) {
          value += load(attention.others + other + c, count);
          add_to(kernel.of_others + other + c, of_value, count);
        }
        store(kernel.of_pairs + at + c, of_value, count);
        store(kernel.of_weights + at + c, of_value * (value - load(attention.results + of_point + c, count)), count);
      }
    }
  }
}
