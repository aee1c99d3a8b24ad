// Rows of points added to the nodes around them. Part of interpolation_simd.h.

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
