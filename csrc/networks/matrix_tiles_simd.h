// Tiles of numbers for the tile registers of AMX: packing tables into them, and products of 2 x 2 tiles. Included by
// matrix_products_cpu.cpp where its instructions are allowed, inside a namespace.
//
// Tiles are 16 rows of 32 bfloat16 numbers, in pairs: a register of the left side holds 16 of its rows, one of the right
// side 16 of its columns, turned so that a row of the register holds one pair of each. Which two numbers make a pair is
// free as long as both sides agree: number p of 32 goes with number p + 16, so that no number moves across a vector.

constexpr int64_t kSide = 16, kDeep = 32;          // rows, and numbers to a row, of a tile
constexpr int64_t kTile = kSide * kDeep;           // numbers of a tile
constexpr int64_t kParts = 3, kStep = kParts * kTile;  // of a number; numbers of a tile's three parts
constexpr int64_t kAhead = 4;  // tiles along the sum that are worked on at once: both sides stay in the first cache
// Numbers between panels of a side, which are two tiles for `kAhead` steps: not a power of two, or all of them would fight
// for the same few lines of the cache.
constexpr int64_t kPanel = kAhead * 2 * kStep + 5 * kDeep;

inline int64_t tiles(int64_t numbers, int64_t each) { return (numbers + each - 1) / each; }

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

struct TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The tile registers of a thread, between two points of a function.
struct Tiles {
  Tiles() {
    static const TileConfig config;
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
};

struct Three {
  __m512i part[kParts];  // upper halves of 16 numbers; the lower ones of the last are of no account
};

// x as a sum of three: each part is what is left, rounded to eight binary digits.
__attribute__((always_inline)) inline Three split(__m512 x) {
  const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(0xffff0000);
  Three three;
  for (int k = 0; k < kParts - 1; ++k) {
    three.part[k] = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(three.part[k]));
  }
  three.part[kParts - 1] = _mm512_castps_si512(x);
  return three;
}

// Pairs of `first` and `second` as rows `row` of the three tiles at `to`.
__attribute__((always_inline)) inline void put_pairs(__m512 first, __m512 second, uint16_t* to, int64_t row) {
  const Three a = split(first), b = split(second);
  for (int k = 0; k < kParts; ++k) {
    const __m512i pairs = _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(a.part[k], 16), b.part[k]);
    _mm512_store_si512(to + k * kTile + row * kDeep, pairs);
  }
}

inline __mmask16 first_of(int64_t count) { return __mmask16(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1); }

// A table of numbers, those beyond its ends and behind a closed gate 0.
struct Table {
  const float* numbers;
  const float* gate;  // or null
  int64_t rows, columns;

  bool has(int64_t row, int64_t column, int64_t row_count, int64_t column_count) const {
    return row + row_count <= rows && column + column_count <= columns;
  }

  // 16 numbers of a row from `column`; `inner`: all are there.
  template <bool inner, bool gated>
  __attribute__((always_inline)) inline __m512 read(int64_t row, int64_t column) const {
    const int64_t at = row * columns + column;
    __mmask16 have = 0xffff;
    if constexpr (!inner) have = row < rows ? first_of(columns - column) : __mmask16(0);
    if constexpr (gated) {
      const __m512 open = _mm512_maskz_loadu_ps(have, gate + at);
      have = _mm512_mask_cmp_ps_mask(have, open, _mm512_setzero_ps(), _CMP_NLE_UQ);  // NaN opens, as in torch
    }
    return _mm512_maskz_loadu_ps(have, numbers + at);
  }
};

// Lines of memory that are needed later: they are sent for a few at a time, while products are taken.
class Ahead {
 public:
  Ahead(const float* first, int64_t stride, int64_t rows, int64_t columns)
      : at_(reinterpret_cast<const char*>(first)), skip_(4 * stride), width_(4 * columns), left_(width_),
        rows_(first == nullptr ? 0 : rows) {}

  __attribute__((always_inline)) inline void send(bool write) {
    if (rows_ <= 0) return;
    write ? _mm_prefetch(at_, _MM_HINT_ET0) : _mm_prefetch(at_, _MM_HINT_T1);
    at_ += kLine, left_ -= kLine;
    if (left_ <= 0) at_ += skip_ - width_ + left_, left_ = width_, --rows_;
  }

 private:
  static constexpr int64_t kLine = 64;
  const char* at_;
  int64_t skip_, width_, left_, rows_;
};

// Two lines of each of two tables; the second one's to be written to, if so.
__attribute__((always_inline)) inline void send_two(Ahead* ahead, bool write) {
  for (int i = 0; i < 2; ++i) ahead[0].send(false), ahead[1].send(write);
}

// Turn the 16 x 16 pairs of each of three tiles.
inline void turn(uint16_t* tile) {
  for (int k = 0; k < kParts; ++k, tile += kTile) {
    __m512i r[16], t[16];
    for (int i = 0; i < 16; ++i) r[i] = _mm512_load_si512(tile + i * kDeep);
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      for (int j = 0; j < 2; ++j) {
        r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
        r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
      }
    }
    for (int i = 0; i < 4; ++i) {
      const __m512i a = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88), b = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
      const __m512i c = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
      const __m512i d = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
      _mm512_store_si512(tile + i * kDeep, _mm512_shuffle_i32x4(a, c, 0x88));
      _mm512_store_si512(tile + (i + 8) * kDeep, _mm512_shuffle_i32x4(a, c, 0xdd));
      _mm512_store_si512(tile + (i + 4) * kDeep, _mm512_shuffle_i32x4(b, d, 0x88));
      _mm512_store_si512(tile + (i + 12) * kDeep, _mm512_shuffle_i32x4(b, d, 0xdd));
    }
  }
}

// 16 rows from `row`, in `steps` times 32 columns from `column`: the columns are what is summed over. Steps of a side lie
// `next` numbers apart.
template <bool inner, bool gated>
void pack_rows_as(const Table& table, int64_t row, int64_t column, int64_t steps, uint16_t* to, int64_t next) {
  for (int64_t r = 0; r < kSide; ++r) {
    for (int64_t k = 0; k < steps; ++k) {
      const int64_t at = column + k * kDeep;
      put_pairs(table.read<inner, gated>(row + r, at), table.read<inner, gated>(row + r, at + kSide), to + k * next, r);
    }
  }
}

void pack_rows(const Table& table, int64_t row, int64_t column, int64_t steps, uint16_t* to, int64_t next) {
  const bool inner = table.has(row, column, kSide, steps * kDeep), gated = table.gate != nullptr;
  const auto pack = inner ? gated ? &pack_rows_as<true, true> : &pack_rows_as<true, false>
                    : gated ? &pack_rows_as<false, true> : &pack_rows_as<false, false>;
  pack(table, row, column, steps, to, next);
}

// 32 rows from `row`, in `pairs` times 32 columns from `column`: the rows are what is summed over. Pairs of column tiles lie
// `next` numbers apart. Adds the sum of each column to `sums`, if there are any.
template <bool inner, bool gated>
void pack_columns_as(const Table& table, int64_t row, int64_t column, int64_t pairs, uint16_t* to, int64_t next,
                     float* sums) {
  for (int64_t r = 0; r < kSide; ++r) {
    for (int64_t tile = 0; tile < 2 * pairs; ++tile) {
      const int64_t at = column + tile * kSide;
      const __m512 first = table.read<inner, gated>(row + r, at), second = table.read<inner, gated>(row + r + kSide, at);
      put_pairs(first, second, to + tile / 2 * next + tile % 2 * kStep, r);
      if (sums == nullptr) continue;
      float* const sum = sums + tile * kSide;
      _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), _mm512_add_ps(first, second)));
    }
  }
}

void pack_columns(const Table& table, int64_t row, int64_t column, int64_t pairs, uint16_t* to, int64_t next, float* sums) {
  const bool inner = table.has(row, column, kDeep, pairs * 2 * kSide), gated = table.gate != nullptr;
  const auto pack = inner ? gated ? &pack_columns_as<true, true> : &pack_columns_as<true, false>
                    : gated ? &pack_columns_as<false, true> : &pack_columns_as<false, false>;
  pack(table, row, column, pairs, to, next, sums);
}

// Where the four tiles that a step works on start from.
struct Start {
  const float* from;  // or null for 0
  int64_t stride;     // numbers between rows; 0 for the same row again and again
};

// 32 x 32 results `stride` numbers apart: 2 x 2 tiles, summed over `steps` tiles of both sides.
// A step of either side is two tiles, of which the three parts lie together.
inline void multiply(const uint16_t* left, const uint16_t* right, int64_t steps, Start start, float* to, int64_t stride,
                     Ahead* ahead, bool write) {
  if (start.from == nullptr) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    const int64_t bytes = start.stride * 4;
    const float* const below = start.from + kSide * start.stride;
    _tile_loadd(0, start.from, bytes);
    _tile_loadd(1, start.from + kSide, bytes);
    _tile_loadd(2, below, bytes);
    _tile_loadd(3, below + kSide, bytes);
  }
  constexpr int64_t kBytes = 2 * kDeep;
// Macros, because the compiler takes no variable for the number of a register.
#define PIM_LEFT(part) \
  _tile_loadd(4, left + part * kTile, kBytes); \
  _tile_loadd(5, left + kStep + part * kTile, kBytes)
#define PIM_RIGHT(part) \
  _tile_loadd(6, right + part * kTile, kBytes); \
  _tile_loadd(7, right + kStep + part * kTile, kBytes)
#define PIM_MULTIPLY() \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6); \
  _tile_dpbf16ps(3, 5, 7)
  for (int64_t k = 0; k < steps; ++k, left += 2 * kStep, right += 2 * kStep) {
    // In an order in which one side stays, small products first.
    PIM_LEFT(0);
    PIM_RIGHT(2);
    PIM_MULTIPLY();
    send_two(ahead, write);
    PIM_RIGHT(1);
    PIM_MULTIPLY();
    send_two(ahead, write);
    PIM_LEFT(1);
    PIM_MULTIPLY();
    send_two(ahead, write);
    PIM_RIGHT(0);
    PIM_MULTIPLY();
    send_two(ahead, write);
    PIM_LEFT(2);
    PIM_MULTIPLY();
    send_two(ahead, write);
    PIM_LEFT(0);
    PIM_MULTIPLY();
  }
#undef PIM_LEFT
#undef PIM_RIGHT
#undef PIM_MULTIPLY
  float* const under = to + kSide * stride;
  const int64_t bytes = stride * 4;
  _tile_stored(0, to, bytes);
  _tile_stored(1, to + kSide, bytes);
  _tile_stored(2, under, bytes);
  _tile_stored(3, under + kSide, bytes);
}

// 32 x 32 sums to their place among the results, as far as these go.
inline void finish(const float* from, int64_t stride, float* to, int64_t to_stride, int64_t rows, int64_t columns,
                   bool relu) {
  const __mmask16 low = first_of(columns), high = first_of(columns - kSide);
  const __m512 zero = _mm512_setzero_ps();
  for (int64_t r = 0; r < smaller(rows, 2 * kSide); ++r, from += stride, to += to_stride) {
    __m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + kSide);
    // The second one goes through where one is NaN.
    if (relu) a = _mm512_max_ps(zero, a), b = _mm512_max_ps(zero, b);
    _mm512_mask_storeu_ps(to, low, a), _mm512_mask_storeu_ps(to + kSide, high, b);
  }
}

// 32 x 32 sums to others, and in the place of others.
inline void add_block(const float* from, int64_t stride, float* to, int64_t to_stride, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r, from += stride, to += to_stride) {
    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), _mm512_loadu_ps(from)));
    _mm512_storeu_ps(to + kSide, _mm512_add_ps(_mm512_loadu_ps(to + kSide), _mm512_loadu_ps(from + kSide)));
  }
}

inline void copy_block(const float* from, float* to, int64_t stride, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r, from += stride, to += stride) {
    _mm512_storeu_ps(to, _mm512_loadu_ps(from)), _mm512_storeu_ps(to + kSide, _mm512_loadu_ps(from + kSide));
  }
}
