// Interpolation with vector loops over the channels, for maps whose channels lie next to each other in memory. Included
// once for each instruction set, inside a namespace of its own: see interpolation_cpu.cpp.

template <typename T>
struct Vector {
  typedef T Lanes __attribute__((vector_size(32)));
  static constexpr int64_t kLanes = 32 / sizeof(T);
};
template <typename T>
using Lanes = typename Vector<T>::Lanes;

template <typename T, typename M>
inline Lanes<T> load(const M* from) {
  if constexpr (std::is_same_v<M, BFloat16>) {
    typedef uint16_t Narrow __attribute__((vector_size(16)));
    typedef uint32_t Wide __attribute__((vector_size(32)));
    Narrow bits;
    std::memcpy(&bits, from, sizeof bits);
    return Lanes<T>(__builtin_convertvector(bits, Wide) << 16);
  } else if constexpr (std::is_same_v<M, Float16>) {
#if defined(PIM_SIMD_AVX2)
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

// The nodes around one copy of a point that are there, with their weights. count is -1 for a NaN point.
template <typename T>
struct Corners {
  int count;
  int64_t at[8];
  T weight[8];
};

// `first` and `end`: the nodes of the slowest axis that count.
template <typename T, int D>
inline void find_corners(const Cell<T, D>& cell, const int64_t* size, const int64_t* stride, const T* tangent,
                         int64_t first, int64_t end, Corners<T>* corners) {
  corners->count = 0;
  if (!cell.finite) {
    corners->count = -1;
    return;
  }
  constexpr int last = D - 1;
  bool whole = tangent == nullptr && cell.low[last] >= first && cell.low[last] + 1 < end;
  for (int axis = 0; axis < last; ++axis) whole = whole && cell.low[axis] >= 0 && cell.low[axis] + 1 < size[axis];
  if (whole) {
    corners->count = 1 << D;
    corners->at[0] = 0;
    corners->weight[0] = 1;
    for (int axis = 0; axis < D; ++axis) corners->at[0] += cell.low[axis] * stride[axis];
    for (int axis = 0; axis < D; ++axis) {
      for (int corner = 0; corner < (1 << axis); ++corner) {
        corners->at[corner + (1 << axis)] = corners->at[corner] + stride[axis];
        corners->weight[corner + (1 << axis)] = corners->weight[corner] * cell.fraction[axis];
        corners->weight[corner] *= 1 - cell.fraction[axis];
      }
    }
    return;
  }
  if (cell.low[last] + 1 < first || cell.low[last] >= end) return;
  for (int corner = 0; corner < (1 << D); ++corner) {
    int64_t position;
    const int64_t node = cell.low[last] + (corner >> last);
    if (node < first || node >= end || !cell.inside(corner, size, stride, &position)) continue;
    corners->at[corners->count] = position;
    corners->weight[corners->count++] = cell.weight(corner, tangent);
  }
}

// Finds the corners of one map's points, all axes at once where nothing is special: float32 without tangent, and all
// corners there. The rest is left to `Cell`.
template <typename M, typename R, int D>
class CornerFinder {
 public:
  using T = typename Sampling<M, R, D>::T;

  // Corners count from node `first` to node `end` of the slowest axis.
  CornerFinder(const Sampling<M, R, D>& s, int map, int64_t first, int64_t end)
      : s_(s), map_(map), first_(first), end_(end), quick_(std::is_same_v<T, float> && s.tangent == nullptr) {
    is_slab_ = first > 0 || end < s.maps[map].size[D - 1];
    for (int axis = 0; axis < D; ++axis) {
      const int64_t size = s.maps[map].size[axis], last_low = (axis == D - 1 ? end : size) - 2;
      quick_ = quick_ && size < (1 << 24);
      scale_[axis] = s.align_corners ? (float(size) - 1) / 2 : float(size) / 2;
      shift_[axis] = s.align_corners ? 0.0f : 0.5f;
      highest_[axis] = float(size - 1);
      least_low_[axis] = axis == D - 1 ? float(first) : 0.0f;
      most_low_[axis] = float(last_low);
    }
  }

  inline void operator()(int64_t b, int64_t n, int64_t k, Corners<T>* corners) const {
    if constexpr (std::is_same_v<T, float>) {
      if (quick_ && quick(s_.points + s_.place(map_, b, n), s_.offsets + k * D, corners)) return;
    }
    const auto& map = s_.maps[map_];
    find_corners<T, D>(s_.cell(map_, b, n, k), map.size, map.stride, s_.tangent_at(map_, b, n), first_, end_, corners);
  }

 private:
  typedef float Axes __attribute__((vector_size(16)));
  typedef int32_t AxesInt __attribute__((vector_size(16)));

  inline bool quick(const float* point, const float* offset, Corners<float>* corners) const {
    Axes at = {point[0], point[1], D == 3 ? point[D - 1] : 0.0f, 0.0f};
    if (s_.offsets != nullptr) at += Axes{offset[0], offset[1], D == 3 ? offset[D - 1] : 0.0f, 0.0f};
    Axes node = (at + 1.0f) * scale_ - shift_;
    if (s_.padding == Padding::kBorder) {
      node = node < 0.0f ? Axes{} : node;
      node = node > highest_ ? highest_ : node;
    }
    // Out of a slab's reach: true of most points, and asked for each slab.
    if (is_slab_ && (node[D - 1] < least_low_[D - 1] - 1 || node[D - 1] >= most_low_[D - 1] + 2)) {
      corners->count = 0;
      return true;
    }
    // Numbers are cut off towards zero: the floor, because what is below zero or NaN is left to `Cell`.
    const AxesInt fits = (node >= least_low_) & (node < most_low_ + 1.0f);
    bool whole = true;
    for (int axis = 0; axis < D; ++axis) whole = whole && fits[axis] != 0;
    if (!whole) return false;
    const AxesInt low = __builtin_convertvector(node, AxesInt);
    const Axes upper = node - __builtin_convertvector(low, Axes), lower = 1.0f - upper;
    const int64_t* stride = s_.maps[map_].stride;
    corners->count = 1 << D;
    const int64_t from = low[0] * stride[0] + low[1] * stride[1] + (D == 3 ? low[2] * stride[D - 1] : 0);
    const float plane[4] = {lower[0] * lower[1], upper[0] * lower[1], lower[0] * upper[1], upper[0] * upper[1]};
    const int64_t to[4] = {from, from + stride[0], from + stride[1], from + stride[0] + stride[1]};
    for (int corner = 0; corner < 4; ++corner) {
      corners->at[corner] = to[corner];
      corners->weight[corner] = D == 3 ? plane[corner] * lower[2] : plane[corner];
      if (D == 2) continue;
      corners->at[corner + 4] = to[corner] + stride[D - 1];
      corners->weight[corner + 4] = plane[corner] * upper[2];
    }
    return true;
  }

  const Sampling<M, R, D>& s_;
  const int map_;
  const int64_t first_, end_;
  bool quick_, is_slab_;
  Axes scale_ = {}, shift_ = {}, highest_ = {}, least_low_ = {}, most_low_ = {};
};

template <typename M, typename R, int D>
inline std::vector<CornerFinder<M, R, D>> corner_finders(const Sampling<M, R, D>& s) {
  std::vector<CornerFinder<M, R, D>> finders;
  finders.reserve(s.map_count);
  for (int m = 0; m < s.map_count; ++m) finders.emplace_back(s, m, 0, s.maps[m].size[D - 1]);
  return finders;
}

// Maps larger than this are fetched ahead; smaller ones stay in the caches anyway.
constexpr int64_t kFetchFrom = 1 << 17;  // bytes of a batch item

// Points whose corners are known ahead of the one being worked on: one where a point is much work, else several.
constexpr int64_t kRing = 4;  // a power of two, more than the points ahead
inline int64_t points_ahead(int64_t elements) { return elements <= 256 ? kRing - 1 : 1; }

template <typename M, int D>
inline bool is_large(const FeatureMap<M, D>& map) {
  int64_t bytes = map.channels * int64_t(sizeof(M));
  for (int axis = 0; axis < D; ++axis) bytes *= map.size[axis];
  return bytes > kFetchFrom;
}

template <typename T, typename M>
inline void fetch(const M* item, const Corners<T>& corners, int64_t channels) {
  for (int corner = 0; corner < corners.count; ++corner) {
    const char* line = reinterpret_cast<const char*>(item + corners.at[corner]);
    for (int64_t byte = 0; byte < channels * int64_t(sizeof(M)); byte += 64) __builtin_prefetch(line + byte);
  }
}

// to[c] = or += sum over corners, for a fixed number of channels.
template <int vectors, typename T, typename M>
inline void mix(T* to, const M* from, const Corners<T>& corners, bool add) {
  constexpr int64_t n = Vector<T>::kLanes;
  Lanes<T> sum[vectors];
  for (int v = 0; v < vectors; ++v) sum[v] = add ? load<T>(to + v * n) : Lanes<T>{};
  for (int corner = 0; corner < corners.count; ++corner) {
    const M* at = from + corners.at[corner];
    for (int v = 0; v < vectors; ++v) sum[v] += corners.weight[corner] * load<T>(at + v * n);
  }
  for (int v = 0; v < vectors; ++v) store(to + v * n, sum[v]);
}

template <typename T, typename M>
inline void gather_channels(T* to, const M* from, int64_t channels, const Corners<T>& corners, bool add) {
  constexpr int64_t n = Vector<T>::kLanes;
  int64_t c = 0;
  if (corners.count < 0) {
    for (; c < channels; ++c) to[c] = T(NAN);
    return;
  }
  for (; c + 4 * n <= channels; c += 4 * n) mix<4>(to + c, from + c, corners, add);
  for (; c + 2 * n <= channels; c += 2 * n) mix<2>(to + c, from + c, corners, add);
  for (; c + n <= channels; c += n) mix<1>(to + c, from + c, corners, add);
  for (; c < channels; ++c) {
    T sum = add ? to[c] : T(0);
    for (int corner = 0; corner < corners.count; ++corner) {
      sum += corners.weight[corner] * T(from[corners.at[corner] + c]);
    }
    to[c] = sum;
  }
}

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
      for (; i < count && reinterpret_cast<std::uintptr_t>(to + i) % 32 != 0; ++i) to[i] = from[i];
      for (; i + n <= count; i += n) {
        _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
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

// All maps, copies and channels of points `begin` to `end` of a batch item.
template <typename M, typename R, int D>
void gather_points(const Sampling<M, R, D>& s, int64_t b, int64_t begin, int64_t end, const int32_t* order,
                   bool stream) {
  using T = typename Sampling<M, R, D>::T;
  const int64_t copies = s.offset_count;
  int64_t width = s.maps[0].channels;
  for (int m = 1; m < s.map_count && !s.sum; ++m) width += s.maps[m].channels;
  const bool by_channel = copies == 1 || s.row_channel_stride == 1;
  const bool direct = by_channel && !stream && std::is_same_v<T, R>;
  std::vector<T> stage(copies * width), turned(by_channel ? 0 : copies * width + 8);
  std::vector<Corners<T>> corners[kRing];
  bool large[Sampling<M, R, D>::kMostMaps];
  for (int m = 0; m < s.map_count; ++m) large[m] = is_large(s.maps[m]);
  for (auto& some : corners) some.resize(s.map_count * copies);
  const auto finders = corner_finders(s);

  const auto prepare = [&](int64_t j) {
    const int64_t n = order != nullptr ? order[j] : j;
    Corners<T>* to = corners[j % kRing].data();
    for (int m = 0; m < s.map_count; ++m) {
      for (int64_t k = 0; k < copies; ++k, ++to) {
        finders[m](b, n, k, to);
        if (large[m]) fetch(s.maps[m].data + b * s.maps[m].batch_stride, *to, s.maps[m].channels);
      }
    }
  };
  const int64_t ahead = points_ahead(copies * width);
  for (int64_t j = begin; j < std::min(end, begin + ahead); ++j) prepare(j);
  for (int64_t j = begin; j < end; ++j) {
    if (j + ahead < end) prepare(j + ahead);
    R* row = s.row(b, order != nullptr ? order[j] : j, 0);
    T* to = stage.data();
    if constexpr (std::is_same_v<T, R>) {
      if (direct) to = row;
    }
    const Corners<T>* at = corners[j % kRing].data();
    for (int m = 0; m < s.map_count; ++m) {
      const auto& map = s.maps[m];
      for (int64_t k = 0; k < copies; ++k, ++at) {
        gather_channels(to + k * width + map.start, map.data + b * map.batch_stride, map.channels, *at,
                        s.sum && m > 0);
      }
    }
    if (direct) continue;
    if (!by_channel) offsets_fastest(stage.data(), copies, width, turned.data());
    write_row(by_channel ? stage.data() : turned.data(), copies * width, stream, row);
  }
  if (stream) finish_streaming();
}

// Some channels of all points of a batch item, where the channels of a map are far apart: one channel's values fit the
// caches better than those of all channels.
template <typename M, typename R, int D>
void gather_strided(const Sampling<M, R, D>& s, int64_t b, int map, int64_t first, int64_t last) {
  using T = typename Sampling<M, R, D>::T;
  const int end = s.sum ? s.map_count : map + 1;
  const auto finders = corner_finders(s);
  Corners<T> corners = {};
  for (int64_t n = 0; n < s.point_count; ++n) {
    for (int64_t k = 0; k < s.offset_count; ++k) {
      T sum[kStridedBlock] = {};
      for (int m = map; m < end; ++m) {
        const auto& features = s.maps[m];
        finders[m](b, n, k, &corners);
        const M* from = features.data + b * features.batch_stride;
        for (int64_t c = first; c < last; ++c) {
          for (int i = 0; i < corners.count; ++i) {
            sum[c - first] += corners.weight[i] * T(from[c * features.channel_stride + corners.at[i]]);
          }
          if (corners.count < 0) sum[c - first] = T(NAN);
        }
      }
      R* row = s.row(b, n, k) + s.maps[map].start * s.row_channel_stride;
      for (int64_t c = first; c < last; ++c) row[c * s.row_channel_stride] = R(sum[c - first]);
    }
  }
}

template <int vectors, typename T>
inline void spread(T* to, const T* row, const Corners<T>& corners) {
  constexpr int64_t n = Vector<T>::kLanes;
  Lanes<T> from[vectors];
  for (int v = 0; v < vectors; ++v) from[v] = load<T>(row + v * n);
  for (int corner = 0; corner < corners.count; ++corner) {
    T* at = to + corners.at[corner];
    for (int v = 0; v < vectors; ++v) {
      store<T>(at + v * n, load<T>(at + v * n) + corners.weight[corner] * from[v]);
    }
  }
}

// The copies of one point by the cell they lie in: on a coarse map most share one, and what they add to its nodes is
// added up in registers. Copies that touch part of a cell stand alone.
struct CellGroups {
  static constexpr int kMost = 8;  // copies
  int count = 0;                   // groups
  int end[kMost];                  // of each group among the members
  int member[kMost];

  template <typename T>
  CellGroups(const Corners<T>* at, int copies, int whole) {
    unsigned left = 0;
    for (int k = 0; k < copies; ++k) left |= unsigned(at[k].count > 0) << k;
    for (int members = 0; left != 0; ++count) {
      const int first = __builtin_ctz(left);
      for (unsigned others = left; others != 0; others &= others - 1) {
        const int k = __builtin_ctz(others);
        if (k != first && (at[k].count != whole || at[first].count != whole || at[k].at[0] != at[first].at[0])) continue;
        member[members++] = k;
        left &= ~(1u << k);
      }
      end[count] = members;
    }
  }
};

// Adds the rows of several copies in one cell to its nodes.
template <int vectors, typename T>
inline void spread_together(T* to, const T* const* rows, const Corners<T>* at, const int* member, int members) {
  constexpr int64_t n = Vector<T>::kLanes;
  const Corners<T>& cell = at[member[0]];
  for (int corner = 0; corner < cell.count; ++corner) {
    T* node = to + cell.at[corner];
    Lanes<T> sum[vectors];
    for (int v = 0; v < vectors; ++v) sum[v] = load<T>(node + v * n);
    for (int i = 0; i < members; ++i) {
      const T weight = at[member[i]].weight[corner];
      for (int v = 0; v < vectors; ++v) sum[v] += weight * load<T>(rows[i] + v * n);
    }
    for (int v = 0; v < vectors; ++v) store(node + v * n, sum[v]);
  }
}

// Some channels of all points of a batch item are added to the nodes `low` to `high` of the slowest axis.
template <typename R, int D>
void scatter_block(const Sampling<typename AccumulatorOf<R>::Type, R, D>& s, int64_t b, int map, int64_t first,
                   int64_t last, int64_t low, int64_t high, const int32_t* order, const R* rows_end) {
  using T = typename AccumulatorOf<R>::Type;
  constexpr int64_t n_lanes = Vector<T>::kLanes;
  const auto& gradient = s.maps[map];
  const int64_t copies = s.offset_count, channels = last - first;
  const bool by_channel = copies == 1 || s.row_channel_stride == 1;
  const bool last_in_memory = gradient.channel_stride == 1 || gradient.channels == 1;
  T* item = gradient.data + b * gradient.batch_stride + first * gradient.channel_stride;
  std::vector<T> turned(copies * channels);
  std::vector<Corners<T>> corners[kRing];
  for (auto& some : corners) some.resize(copies);
  const bool large = last_in_memory && is_large(gradient);
  const bool in_cells = last_in_memory && copies > 1 && copies <= CellGroups::kMost && channels % (4 * n_lanes) == 0;
  const CornerFinder<T, R, D> finder(s, map, low, high);

  const auto prepare = [&](int64_t j) {
    const int64_t n = order != nullptr ? order[j] : j;
    for (int64_t k = 0; k < copies; ++k) {
      Corners<T>& at = corners[j % kRing][k];
      finder(b, n, k, &at);
      if (large) fetch(item, at, channels);
      // A row is read once, a part of it for each map and block: too little in a row for the processor to see it coming.
      if (by_channel && at.count > 0) {
        const char* row = reinterpret_cast<const char*>(s.row(b, n, k) + gradient.start + first);
        for (int64_t byte = 0; byte < channels * int64_t(sizeof(R)); byte += 64) __builtin_prefetch(row + byte);
      }
    }
  };
  const int64_t ahead = points_ahead(copies * channels);
  for (int64_t j = 0; j < std::min(s.point_count, ahead); ++j) prepare(j);
  for (int64_t j = 0; j < s.point_count; ++j) {
    if (j + ahead < s.point_count) prepare(j + ahead);
    const Corners<T>* at = corners[j % kRing].data();
    bool any = false;
    for (int64_t k = 0; k < copies; ++k) any = any || at[k].count > 0;
    if (!any) continue;
    const int64_t n = order != nullptr ? order[j] : j;
    if (!by_channel) {
      channels_fastest(s.row(b, n, 0) + (gradient.start + first) * s.row_channel_stride, rows_end, copies, channels,
                       turned.data(), channels);
    }
    const auto row_of = [&](int64_t k) {
      const T* row = turned.data() + k * channels;
      if (by_channel) {
        const R* from = s.row(b, n, k) + gradient.start + first;
        if constexpr (std::is_same_v<T, R>) {
          row = from;
        } else {
          for (int64_t c = 0; c < channels; ++c) turned[k * channels + c] = T(from[c]);
        }
      }
      return row;
    };
    const auto add_alone = [&](int64_t k) {
      const T* row = row_of(k);
      int64_t c = 0;
      if (last_in_memory) {
        for (; c + 4 * n_lanes <= channels; c += 4 * n_lanes) spread<4>(item + c, row + c, at[k]);
        for (; c + n_lanes <= channels; c += n_lanes) spread<1>(item + c, row + c, at[k]);
      }
      for (; c < channels; ++c) {
        T* to = item + c * gradient.channel_stride;
        for (int i = 0; i < at[k].count; ++i) to[at[k].at[i]] += at[k].weight[i] * row[c];
      }
    };
    if (!in_cells) {
      for (int64_t k = 0; k < copies; ++k) {
        if (at[k].count > 0) add_alone(k);
      }
      continue;
    }
    const CellGroups groups(at, int(copies), 1 << D);
    for (int group = 0, begin = 0; group < groups.count; begin = groups.end[group++]) {
      const int* member = groups.member + begin;
      const int members = groups.end[group] - begin;
      if (members == 1) {
        add_alone(member[0]);
        continue;
      }
      const T* rows[CellGroups::kMost];
      for (int i = 0; i < members; ++i) rows[i] = row_of(member[i]);
      for (int64_t c = 0; c < channels; c += 4 * n_lanes) {
        spread_together<4>(item + c, rows, at, member, members);
        for (int i = 0; i < members; ++i) rows[i] += 4 * n_lanes;
      }
    }
  }
}

// The slope at points `begin` to `end` of a batch item.
template <typename M, typename R, int D>
void slope_points(const Sampling<M, R, D>& s, int64_t b, int64_t begin, int64_t end, const int32_t* order,
                  const R* rows_end, typename Sampling<M, R, D>::T* gradient) {
  using T = typename Sampling<M, R, D>::T;
  constexpr int64_t n_lanes = Vector<T>::kLanes;
  constexpr int corners = 1 << D;
  const int64_t copies = s.offset_count;
  int64_t width = s.maps[0].channels;
  for (int m = 1; m < s.map_count && !s.sum; ++m) width += s.maps[m].channels;
  const bool by_channel = copies == 1 || s.row_channel_stride == 1;
  std::vector<T> stage(copies * width);
  for (int64_t j = begin; j < end; ++j) {
    const int64_t n = order != nullptr ? order[j] : j;
    const R* from = s.row(b, n, 0);
    const T* rows = stage.data();
    if (!by_channel) {
      channels_fastest(from, rows_end, copies, width, stage.data(), width);
    } else if constexpr (std::is_same_v<T, R>) {
      rows = from;
    } else {
      for (int64_t c = 0; c < copies * width; ++c) stage[c] = T(from[c]);
    }
    T total[D] = {};
    for (int m = 0; m < s.map_count; ++m) {
      const auto& map = s.maps[m];
      const T* tangent = s.tangent_at(m, b, n);
      const M* item = map.data + b * map.batch_stride;
      for (int64_t k = 0; k < copies; ++k) {
        const Cell<T, D> cell = s.cell(m, b, n, k);
        const T* row = rows + k * width + map.start;
        int64_t at[corners];
        bool inside[corners], whole = map.channel_stride == 1;
        for (int corner = 0; corner < corners; ++corner) {
          inside[corner] = cell.inside(corner, map.size, map.stride, &at[corner]);
          whole = whole && inside[corner];
        }
        T along[corners] = {};
        int64_t c = 0;
        if (whole) {
          Lanes<T> sums[corners] = {};
          for (; c + n_lanes <= map.channels; c += n_lanes) {
            const Lanes<T> lanes = load<T>(row + c);
            for (int corner = 0; corner < corners; ++corner) sums[corner] += lanes * load<T>(item + at[corner] + c);
          }
          for (int corner = 0; corner < corners; ++corner) along[corner] = sum_of<T>(sums[corner]);
        }
        for (int corner = 0; corner < corners; ++corner) {
          if (!inside[corner]) continue;
          for (int64_t rest = c; rest < map.channels; ++rest) {
            along[corner] += row[rest] * T(item[at[corner] + rest * map.channel_stride]);
          }
          for (int axis = 0; axis < D; ++axis) total[axis] += along[corner] * cell.weight_slope(corner, axis, tangent);
        }
        for (int axis = 0; !cell.finite && axis < D; ++axis) total[axis] = T(NAN);
      }
      if (s.point_map_stride == 0 && m < s.map_count - 1) continue;
      for (int axis = 0; axis < D; ++axis) {
        gradient[s.place(m, b, n) + axis] = total[axis];
        total[axis] = 0;
      }
    }
  }
}
