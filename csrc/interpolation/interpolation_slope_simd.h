// The slope of what is gathered, along the points. Part of interpolation_simd.h.

// Fetches nodes ahead, and no more: corners found there may be rounded into the cell beside, whose slope is another.
template <typename M, typename R, int D>
struct FetchedPart {
  Steps<M, R, D> steps;
  void prepare(int64_t step) {
    if (steps.fetches()) steps.prepare(step);
  }
};

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
  const int64_t ahead = steps_ahead(copies * width, s.map_count);
  std::vector<FetchedPart<M, R, D>> parts;
  parts.reserve(s.map_count);
  for (int m = 0; m < s.map_count; ++m) {
    const auto& map = s.maps[m];
    parts.push_back({{s, m, b, map.data + b * map.batch_stride, map.channels, 0, map.size[D - 1], order, begin, end, 1,
                      slots_of(ahead, s.map_count)}});
  }
  Preparation<FetchedPart<M, R, D>> preparation(parts, end - begin, ahead);
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
      preparation.next();
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
