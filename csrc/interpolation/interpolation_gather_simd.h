// Features gathered at points. Part of interpolation_simd.h.

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
  std::vector<Corners<T>> corners(kRing * copies);
  bool far[Sampling<M, R, D>::kMostMaps];
  for (int m = 0; m < s.map_count; ++m) far[m] = is_far(s, s.maps[m], order != nullptr);
  const auto finders = corner_finders(s);
  const auto point = [&](int64_t j) { return order != nullptr ? order[j] : j; };

  // A step is one map at one point.
  const auto prepare = [&](int64_t step, int m, int64_t j) {
    const int64_t n = point(j);
    const M* item = s.maps[m].data + b * s.maps[m].batch_stride;
    Corners<T>* to = corners.data() + step % kRing * copies;
    if (s.point_map_stride != 0 && order != nullptr) {
      __builtin_prefetch(s.points + s.place(m, b, point(std::min(j + kPointsAhead, end - 1))));
    }
    for (int64_t k = 0; k < copies; ++k, ++to) {
      finders[m](b, n, k, to);
      if (far[m]) fetch(item, *to, s.maps[m].channels);
    }
  };
  const int64_t ahead = std::min((end - begin) * s.map_count, steps_ahead(copies * width, s.map_count));
  int64_t step = 0, next_step = 0, next_point = begin;
  int next_map = 0;
  const auto prepare_next = [&] {
    prepare(next_step++, next_map, next_point);
    if (++next_map == s.map_count) next_map = 0, ++next_point;
  };
  while (next_step < ahead) prepare_next();
  for (int64_t j = begin; j < end; ++j) {
    R* row = s.row(b, point(j), 0);
    T* to = stage.data();
    if constexpr (std::is_same_v<T, R>) {
      if (direct) to = row;
    }
    for (int m = 0; m < s.map_count; ++m, ++step) {
      if (next_point < end) prepare_next();
      const auto& map = s.maps[m];
      const Corners<T>* at = corners.data() + step % kRing * copies;
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
