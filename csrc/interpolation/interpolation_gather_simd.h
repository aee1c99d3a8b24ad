// Features gathered at points. Part of interpolation_simd.h.

// to[c] = or += sum over `count` corners, for a fixed number of channels.
template <int vectors, typename T, typename M>
inline void mix(T* to, const M* from, const Corners<T>& corners, int count, bool add) {
  constexpr int64_t n = Vector<T>::kLanes;
  Lanes<T> sum[vectors];
  for (int v = 0; v < vectors; ++v) sum[v] = add ? load<T>(to + v * n) : Lanes<T>{};
  for (int corner = 0; corner < count; ++corner) {
    const M* at = from + corners.at[corner];
    for (int v = 0; v < vectors; ++v) sum[v] += corners.weight[corner] * load<T>(at + v * n);
  }
  for (int v = 0; v < vectors; ++v) store(to + v * n, sum[v]);
}

template <typename T, typename M>
inline void mix_channels(T* to, const M* from, int64_t channels, const Corners<T>& corners, int count, bool add) {
  constexpr int64_t n = Vector<T>::kLanes;
  int64_t c = 0;
  for (; c + 4 * n <= channels; c += 4 * n) mix<4>(to + c, from + c, corners, count, add);
  for (; c + 2 * n <= channels; c += 2 * n) mix<2>(to + c, from + c, corners, count, add);
  for (; c + n <= channels; c += n) mix<1>(to + c, from + c, corners, count, add);
  for (; c < channels; ++c) {
    T sum = add ? to[c] : T(0);
    for (int corner = 0; corner < count; ++corner) {
      sum += corners.weight[corner] * T(from[corners.at[corner] + c]);
    }
    to[c] = sum;
  }
}

template <int D, typename T, typename M>
inline void gather_channels(T* to, const M* from, int64_t channels, const Corners<T>& corners, bool add) {
  if (corners.count == 1 << D) return mix_channels(to, from, channels, corners, 1 << D, add);
  if (corners.count >= 0) return mix_channels(to, from, channels, corners, corners.count, add);
  for (int64_t c = 0; c < channels; ++c) to[c] = T(NAN);
}

// One map of a batch item, gathered at points in steps.
template <typename M, typename R, int D>
class GatheredPart {
 public:
  using T = typename Sampling<M, R, D>::T;

  GatheredPart(const Sampling<M, R, D>& s, int map, int64_t b, const int32_t* order, int64_t begin, int64_t end,
               int64_t together, int64_t slots)
      : copies_(s.offset_count),
        channels_(s.maps[map].channels),
        item_(s.maps[map].data + b * s.maps[map].batch_stride),
        add_(s.sum && map > 0),
        steps_(s, map, b, item_, channels_, 0, s.maps[map].size[D - 1], order, begin, end, together, slots) {}

  // Finds the corners of the points of a step, for `gather`. Neither is inlined: each then has the registers to itself.
  __attribute__((noinline)) void prepare(int64_t step) { steps_.prepare(step); }

  // The channels of the points of a step: to[i] + k * width for copy k of the i-th.
  __attribute__((noinline)) void gather(int64_t step, T* const* to, int64_t width) const {
    const int64_t count = steps_.last(step) - steps_.first(step), copies = copies_, channels = channels_;
    const Corners<T>* at = steps_.corners(step);
    const M* const item = item_;
    const bool add = add_;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t k = 0; k < copies; ++k, ++at) gather_channels<D>(to[i] + k * width, item, channels, *at, add);
    }
  }

 private:
  const int64_t copies_, channels_;
  const M* const item_;
  const bool add_;
  Steps<M, R, D> steps_;
};

// All maps, copies and channels of points `begin` to `end` of a batch item.
template <typename M, typename R, int D>
void gather_points(const Sampling<M, R, D>& s, int64_t b, int64_t begin, int64_t end, const int32_t* order,
                   bool stream) {
  using T = typename Sampling<M, R, D>::T;
  const int64_t copies = s.offset_count, together = copies == 1 ? kTogether : 1;
  int64_t width = s.maps[0].channels;
  for (int m = 1; m < s.map_count && !s.sum; ++m) width += s.maps[m].channels;
  const bool by_channel = copies == 1 || s.row_channel_stride == 1;
  const bool direct = by_channel && !stream && std::is_same_v<T, R>;
  std::vector<T> stage(direct ? 0 : together * copies * width), turned(by_channel ? 0 : copies * width + 8);
  const int64_t steps = (end - begin + together - 1) / together;
  const int64_t ahead = steps_ahead(together * copies * width, s.map_count);
  std::vector<GatheredPart<M, R, D>> parts;
  parts.reserve(s.map_count);
  for (int m = 0; m < s.map_count; ++m) {
    parts.emplace_back(s, m, b, order, begin, end, together, slots_of(ahead, s.map_count));
  }
  Preparation<GatheredPart<M, R, D>> preparation(parts, steps, ahead);
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t first = begin + step * together, count = std::min(together, end - first);
    R* rows[kTogether];
    T* to[kTogether];
    for (int64_t i = 0; i < count; ++i) {
      rows[i] = s.row(b, order != nullptr ? order[first + i] : first + i, 0);
      if (!direct) to[i] = stage.data() + i * copies * width;
      if constexpr (std::is_same_v<T, R>) {
        if (direct) to[i] = rows[i];
      }
    }
    for (int m = 0; m < s.map_count; ++m) {
      preparation.next();
      T* of_map[kTogether];
      for (int64_t i = 0; i < count; ++i) of_map[i] = to[i] + s.maps[m].start;
      parts[m].gather(step, of_map, width);
    }
    for (int64_t i = 0; i < count && !direct; ++i) {
      if (!by_channel) offsets_fastest(to[i], copies, width, turned.data());
      write_row(by_channel ? to[i] : turned.data(), copies * width, stream, rows[i]);
    }
  }
  if (stream) finish_streaming();
}

// Some channels of all points of a batch item, where the channels of a map are far apart: one channel's values fit the
// caches better than those of all channels.
template <typename M, typename R, int D>
void gather_strided(const Sampling<M, R, D>& s, int64_t b, int map, int64_t first, int64_t last) {
  using T = typename Sampling<M, R, D>::T;
  const int end = s.sum ? s.map_count : map + 1;
  std::vector<CornerFinder<M, R, D>> finders;
  finders.reserve(s.map_count);
  for (int m = 0; m < s.map_count; ++m) finders.emplace_back(s, m, b, 0, s.maps[m].size[D - 1]);
  Corners<T> corners = {};
  for (int64_t n = 0; n < s.point_count; ++n) {
    for (int64_t k = 0; k < s.offset_count; ++k) {
      T sum[kStridedBlock] = {};
      for (int m = map; m < end; ++m) {
        const auto& features = s.maps[m];
        finders[m](n, k, &corners);
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
