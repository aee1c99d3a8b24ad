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

// Adds the rows of several copies in one cell, all of whose nodes are there, to its nodes: the sums of all nodes stay in
// registers.
template <int vectors, int D, typename T>
inline void spread_together(T* to, const T* const* rows, const Corners<T>* at, const int* member, int members) {
  constexpr int64_t n = Vector<T>::kLanes;
  constexpr int corners = 1 << D;
  const Corners<T>& cell = at[member[0]];
  Lanes<T> sums[corners][vectors];
  for (int corner = 0; corner < corners; ++corner) {
    for (int v = 0; v < vectors; ++v) sums[corner][v] = load<T>(to + cell.at[corner] + v * n);
  }
  for (int i = 0; i < members; ++i) {
    const T* weight = at[member[i]].weight;
    Lanes<T> row[vectors];
    for (int v = 0; v < vectors; ++v) row[v] = load<T>(rows[i] + v * n);
    for (int corner = 0; corner < corners; ++corner) {
      for (int v = 0; v < vectors; ++v) sums[corner][v] += weight[corner] * row[v];
    }
  }
  for (int corner = 0; corner < corners; ++corner) {
    for (int v = 0; v < vectors; ++v) store(to + cell.at[corner] + v * n, sums[corner][v]);
  }
}

// Whether two copies of a point may lie in one cell.
template <typename T, typename R, int D>
bool copies_share_cells(const Sampling<T, R, D>& s, const FeatureMap<T, D>& map) {
  if (s.offset_count > CellGroups::kMost) return false;
  for (int64_t k = 0; k < s.offset_count; ++k) {
    for (int64_t other = 0; other < k; ++other) {
      bool close = true;
      for (int axis = 0; axis < D; ++axis) {
        const T apart = (s.offsets[k * D + axis] - s.offsets[other * D + axis]) * T(map.size[axis]) / 2;
        close = close && apart < 1 && apart > -1;
      }
      if (close) return true;
    }
  }
  return false;
}

// Some channels of one map's gradient in a batch item.
template <typename R, int D>
class GradientPart {
 public:
  using T = typename AccumulatorOf<R>::Type;

  // Corners count from node `low` to node `high` of the slowest axis.
  GradientPart(const Sampling<T, R, D>& s, int64_t b, const ChannelRange& range, int64_t low, int64_t high)
      : s_(s),
        map_(s.maps[range.map]),
        b_(b),
        first_(range.first),
        channels_(range.last - range.first),
        item_(map_.data + b * map_.batch_stride + first_ * map_.channel_stride),
        by_channel_(s.offset_count == 1 || s.row_channel_stride == 1),
        last_in_memory_(map_.channel_stride == 1 || map_.channels == 1),
        large_(last_in_memory_ && is_large(map_)),
        in_cells_(last_in_memory_ && channels_ % (kTogether * kLanes) == 0 && copies_share_cells(s, map_)),
        finder_(s, range.map, low, high),
        turned_(s.offset_count * channels_),
        corners_(kRing * s.offset_count) {}

  // Finds the corners of point `n`, the `j`th, for `add`, and fetches what that will read.
  inline void prepare(int64_t j, int64_t n) {
    const int64_t copies = s_.offset_count, channels = channels_, b = b_;
    const bool large = large_, by_channel = by_channel_;
    T* const item = item_;
    Corners<T>* at = corners_.data() + j % kRing * copies;
    const R* row = s_.row(b, n, 0) + map_.start + first_;
    bool any = false;
    for (int64_t k = 0; k < copies; ++k, ++at, row += s_.row_offset_stride) {
      finder_(b, n, k, at);
      if (at->count <= 0) continue;
      any = true;
      if (large) fetch(item, *at, channels);
      // A row is read once, a part of it at a time: too little in a row for the processor to see it coming.
      if (by_channel) fetch_bytes(row, channels * int64_t(sizeof(R)));
    }
    reaches_[j % kRing] = any;
  }

  // Adds point `n`, the `j`th.
  inline void add(int64_t j, int64_t n, const R* rows_end) {
    if (!reaches_[j % kRing]) return;
    const int64_t copies = s_.offset_count;
    const Corners<T>* at = corners_.data() + j % kRing * copies;
    const R* from = s_.row(b_, n, 0) + (map_.start + first_) * s_.row_channel_stride;
    const T* rows = turned_.data();
    int64_t stride = channels_;
    if (!by_channel_) {
      channels_fastest(from, rows_end, copies, channels_, turned_.data(), channels_);
    } else if constexpr (std::is_same_v<T, R>) {
      rows = from;
      stride = s_.row_offset_stride;
    } else {
      for (int64_t k = 0; k < copies; ++k) {
        for (int64_t c = 0; c < channels_; ++c) turned_[k * channels_ + c] = T(from[k * s_.row_offset_stride + c]);
      }
    }
    if (!in_cells_) {
      for (int64_t k = 0; k < copies; ++k) {
        if (at[k].count > 0) add_alone(rows + k * stride, at[k]);
      }
      return;
    }
    const CellGroups groups(at, int(copies), 1 << D);
    for (int group = 0, begin = 0; group < groups.count; begin = groups.end[group++]) {
      const int* member = groups.member + begin;
      const int members = groups.end[group] - begin;
      if (members == 1) {
        add_alone(rows + member[0] * stride, at[member[0]]);
        continue;
      }
      const T* of[CellGroups::kMost];
      for (int i = 0; i < members; ++i) of[i] = rows + member[i] * stride;
      for (int64_t c = 0; c < channels_; c += kTogether * kLanes) {
        spread_together<kTogether, D>(item_ + c, of, at, member, members);
        for (int i = 0; i < members; ++i) of[i] += kTogether * kLanes;
      }
    }
  }

 private:
  static constexpr int64_t kLanes = Vector<T>::kLanes;
  static constexpr int kTogether = kVectorBytes == 64 ? 2 : 1;  // of as many registers as there are

  inline void add_alone(const T* row, const Corners<T>& at) const {
    const int64_t channels = channels_;
    T* const item = item_;
    int64_t c = 0;
    if (last_in_memory_) {
      for (; c + 4 * kLanes <= channels; c += 4 * kLanes) spread<4>(item + c, row + c, at);
      for (; c + 2 * kLanes <= channels; c += 2 * kLanes) spread<2>(item + c, row + c, at);
      for (; c + kLanes <= channels; c += kLanes) spread<1>(item + c, row + c, at);
    }
    for (; c < channels; ++c) {
      T* to = item + c * map_.channel_stride;
      for (int i = 0; i < at.count; ++i) to[at.at[i]] += at.weight[i] * row[c];
    }
  }

  const Sampling<T, R, D>& s_;
  const FeatureMap<T, D>& map_;
  const int64_t b_, first_, channels_;
  T* const item_;
  const bool by_channel_, last_in_memory_, large_, in_cells_;
  const CornerFinder<T, R, D> finder_;
  std::vector<T> turned_;
  std::vector<Corners<T>> corners_;
  bool reaches_[kRing];  // whether any copy reaches nodes of this part
};

// All points of a batch item are added to some channels of some maps that follow each other in a row, to the nodes of
// one of `slabs` slabs along each map's slowest axis.
template <typename R, int D>
void scatter_ranges(const Sampling<typename AccumulatorOf<R>::Type, R, D>& s, int64_t b, const ChannelRange* ranges,
                    int64_t count, int64_t slab, int64_t slabs, const int32_t* order, const R* rows_end) {
  std::vector<GradientPart<R, D>> parts;
  parts.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t nodes = s.maps[ranges[i].map].size[D - 1];
    parts.emplace_back(s, b, ranges[i], nodes * slab / slabs, nodes * (slab + 1) / slabs);
  }
  int64_t channels = 0;
  for (int64_t i = 0; i < count; ++i) channels += ranges[i].last - ranges[i].first;
  const auto point = [&](int64_t j) { return order != nullptr ? order[j] : j; };
  // A step is one part of one point; what is read some steps later is fetched before each.
  const int64_t ahead = steps_ahead(s.offset_count * channels, count);
  GradientPart<R, D>*const first = parts.data(), *const last = first + count, *next = first;
  int64_t next_point = 0;
  const auto prepare_next = [&] {
    if (next_point == s.point_count) return;
    next->prepare(next_point, point(next_point));
    if (++next == last) next = first, ++next_point;
  };
  for (int64_t step = 0; step < ahead; ++step) prepare_next();
  for (int64_t j = 0; j < s.point_count; ++j) {
    const int64_t n = point(j);
    for (auto* part = first; part != last; ++part) {
      prepare_next();
      part->add(j, n, rows_end);
    }
  }
}
