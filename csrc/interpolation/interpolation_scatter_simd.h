// Rows of points added to the nodes around them. Part of interpolation_simd.h.

template <int vectors, typename T>
inline void spread(T* to, const T* row, const Corners<T>& corners, int count) {
  constexpr int64_t n = Vector<T>::kLanes;
  Lanes<T> from[vectors];
  for (int v = 0; v < vectors; ++v) from[v] = load<T>(row + v * n);
  for (int corner = 0; corner < count; ++corner) {
    T* at = to + corners.at[corner];
    for (int v = 0; v < vectors; ++v) {
      store<T>(at + v * n, load<T>(at + v * n) + corners.weight[corner] * from[v]);
    }
  }
}

// Copies of points by the cell they lie in: on a coarse map many share one, and what they add to its nodes is added up
// in registers. Copies that touch part of a cell stand alone.
struct CellGroups {
  static constexpr int kMost = 8;  // copies
  static_assert(kTogether <= kMost, "the points of a step fit");
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

// Adds the rows of several copies in one cell, all of whose nodes are there, to its nodes: the sums of all nodes stay
// in registers.
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

// Whether points that follow each other in the order of cells mostly share one.
template <typename T, typename R, int D>
bool neighbours_share_cells(const Sampling<T, R, D>& s, const FeatureMap<T, D>& map) {
  return s.offset_count == 1 && s.point_count >= 2 * map.nodes();
}

// Some channels of one map's gradient in a batch item. Points are added in steps of `together` that follow each other.
template <typename R, int D>
class GradientPart {
 public:
  using T = typename AccumulatorOf<R>::Type;

  // Corners count from node `low` to node `high` of the slowest axis. `order`: of the points, or null for their own.
  GradientPart(const Sampling<T, R, D>& s, int64_t b, const ChannelRange& range, int64_t low, int64_t high,
               const int32_t* order, int64_t together, int64_t slots)
      : s_(s),
        map_(s.maps[range.map]),
        b_(b),
        first_(range.first),
        channels_(range.last - range.first),
        entries_(together * s.offset_count),
        item_(map_.data + b * map_.batch_stride + first_ * map_.channel_stride),
        by_channel_(s.offset_count == 1 || s.row_channel_stride == 1),
        fetch_rows_(by_channel_ && !(s.sum && range.map > 0)),
        last_in_memory_(map_.in_rows()),
        in_cells_(last_in_memory_ && entries_ <= CellGroups::kMost && channels_ % (kVectors * kLanes) == 0 &&
                  (s.offset_count > 1 ? copies_share_cells(s, map_)
                                      : order != nullptr && neighbours_share_cells(s, map_))),
        turned_(std::is_same_v<T, R> && by_channel_ ? 0 : entries_ * channels_),
        rows_(entries_),
        steps_(s, range.map, b, item_, channels_, low, high, order, 0, s.point_count, together, slots) {}

  // Finds the corners of the points of a step, for `add`. Neither is inlined: each then has the registers to itself.
  __attribute__((noinline)) void prepare(int64_t step) {
    const bool fetch_rows = fetch_rows_;
    const int64_t bytes = channels_ * int64_t(sizeof(R)), from = map_.start + first_;
    bool any = false;
    steps_.prepare(step, [&](int64_t n, int64_t k, const Corners<T>& at) {
      if (at.count <= 0) return;
      any = true;
      // A row is read once, a part of it at a time: too little in a row for the processor to see it coming.
      if (fetch_rows) fetch_bytes(s_.row(b_, n, k) + from, bytes);
    });
    reaches_[step % kReaches] = any;
  }

  // Adds the points of a step; reads nothing at or behind `rows_end`.
  __attribute__((noinline)) void add(int64_t step, const R* rows_end) {
    if (!reaches_[step % kReaches]) return;
    const int64_t begin = steps_.first(step), end = steps_.last(step), count = (end - begin) * s_.offset_count;
    const Corners<T>* at = steps_.corners(step);
    const T** rows = rows_.data();
    for (int64_t j = begin; j < end; ++j, rows += s_.offset_count) {
      find_rows(steps_.point(j), j - begin, rows_end, rows);
    }
    rows = rows_.data();
    if (!in_cells_) {
      for (int64_t i = 0; i < count; ++i) {
        if (at[i].count > 0) add_alone(rows[i], at[i]);
      }
      return;
    }
    const CellGroups groups(at, int(count), 1 << D);
    for (int group = 0, from = 0; group < groups.count; from = groups.end[group++]) {
      const int* member = groups.member + from;
      const int members = groups.end[group] - from;
      if (members == 1) {
        add_alone(rows[member[0]], at[member[0]]);
        continue;
      }
      const T* of[CellGroups::kMost];
      for (int i = 0; i < members; ++i) of[i] = rows[member[i]];
      for (int64_t c = 0; c < channels_; c += kVectors * kLanes) {
        spread_together<kVectors, D>(item_ + c, of, at, member, members);
        for (int i = 0; i < members; ++i) of[i] += kVectors * kLanes;
      }
    }
  }

 private:
  static constexpr int64_t kLanes = Vector<T>::kLanes, kReaches = kMostAhead + 1;
  static constexpr int kVectors = kVectorBytes == 64 ? 2 : 1;  // of each node at once: all sums stay in registers

  // The rows of the copies of point `n`, the `place`th of a step, as numbers of the type that sums are kept in.
  inline void find_rows(int64_t n, int64_t place, const R* rows_end, const T** rows) {
    const int64_t copies = s_.offset_count, channels = channels_;
    const R* from = s_.row(b_, n, 0) + (map_.start + first_) * s_.row_channel_stride;
    if constexpr (std::is_same_v<T, R>) {
      if (by_channel_) {
        for (int64_t k = 0; k < copies; ++k) rows[k] = from + k * s_.row_offset_stride;
        return;
      }
    }
    T* to = turned_.data() + place * copies * channels;
    for (int64_t k = 0; k < copies; ++k) rows[k] = to + k * channels;
    if (!by_channel_) return channels_fastest(from, rows_end, copies, channels, to, channels);
    for (int64_t k = 0; k < copies; ++k, from += s_.row_offset_stride, to += channels) {
      for (int64_t c = 0; c < channels; ++c) to[c] = T(from[c]);
    }
  }

  inline void add_alone(const T* row, const Corners<T>& at) const {
    if (at.count == 1 << D) return add_alone(row, at, 1 << D);  // a number that is known is a loop less
    add_alone(row, at, at.count);
  }
  inline void add_alone(const T* row, const Corners<T>& at, int count) const {
    const int64_t channels = channels_;
    T* const item = item_;
    int64_t c = 0;
    if (last_in_memory_) {
      for (; c + 4 * kLanes <= channels; c += 4 * kLanes) spread<4>(item + c, row + c, at, count);
      for (; c + 2 * kLanes <= channels; c += 2 * kLanes) spread<2>(item + c, row + c, at, count);
      for (; c + kLanes <= channels; c += kLanes) spread<1>(item + c, row + c, at, count);
    }
    for (; c < channels; ++c) {
      T* to = item + c * map_.channel_stride;
      for (int i = 0; i < count; ++i) to[at.at[i]] += at.weight[i] * row[c];
    }
  }

  const Sampling<T, R, D>& s_;
  const FeatureMap<T, D>& map_;
  const int64_t b_, first_, channels_, entries_;
  T* const item_;
  const bool by_channel_, fetch_rows_, last_in_memory_, in_cells_;
  std::vector<T> turned_;
  std::vector<const T*> rows_;
  Steps<T, R, D> steps_;
  bool reaches_[kReaches];  // whether any point of a step reaches nodes of this part
};

// All points of a batch item are added to some channels of some maps that follow each other in a row, to the nodes of
// one of `slabs` slabs along each map's slowest axis.
template <typename R, int D>
void scatter_ranges(const Sampling<typename AccumulatorOf<R>::Type, R, D>& s, int64_t b, const ChannelRange* ranges,
                    int64_t count, int64_t slab, int64_t slabs, const int32_t* order, const R* rows_end) {
  int64_t channels = 0;
  for (int64_t i = 0; i < count; ++i) channels += ranges[i].last - ranges[i].first;
  const int64_t together = s.offset_count == 1 ? kTogether : 1;
  const int64_t steps = (s.point_count + together - 1) / together;
  const int64_t ahead = steps_ahead(together * s.offset_count * channels, count);
  std::vector<GradientPart<R, D>> parts;
  parts.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t nodes = s.maps[ranges[i].map].size[D - 1];
    parts.emplace_back(s, b, ranges[i], nodes * slab / slabs, nodes * (slab + 1) / slabs, order, together,
                       slots_of(ahead, count));
  }
  Preparation<GradientPart<R, D>> preparation(parts, steps, ahead);
  for (int64_t step = 0; step < steps; ++step) {
    for (auto& part : parts) {
      preparation.next();
      part.add(step, rows_end);
    }
  }
}
