// The steps of convolution.h for a piece of the tiles. Included once for each instruction set, inside a namespace of its
// own, with PIM_LANES numbers to a vector: see convolution_cpu.cpp.

typedef float Wide __attribute__((vector_size(4 * PIM_LANES)));
constexpr int kLanes = PIM_LANES;
constexpr int kRows = PIM_LANES == 16 ? 8 : 4;  // of a product, summed up in registers: as many as there are

inline Wide load(const float* from) {
  Wide wide;
  std::memcpy(&wide, from, sizeof wide);
  return wide;
}

inline void store(float* to, Wide wide) { std::memcpy(to, &wide, sizeof wide); }

// Along one axis, `step` numbers apart: a tile's four inputs, its two gradients, its two results.
template <int step>
inline void turn_inputs(Wide* at) {
  const Wide d0 = at[0], d1 = at[step], d2 = at[2 * step], d3 = at[3 * step];
  at[0] = d0 - d2, at[step] = d1 + d2, at[2 * step] = d2 - d1, at[3 * step] = d1 - d3;
}

template <int step>
inline void turn_gradients(Wide* at) {
  const Wide y0 = at[0], y1 = at[step];
  at[step] = y0 + y1, at[2 * step] = y0 - y1, at[3 * step] = -y1;
}

template <int step>
inline void turn_results(Wide* at) {
  const Wide m0 = at[0], m1 = at[step], m2 = at[2 * step], m3 = at[3 * step];
  at[0] = m0 + m1 + m2, at[step] = m1 - m2 - m3;
}

// The 4x4x4 inputs of a tile in one vector of channels, zero outside the grid; turned, to 64 places `stride` apart.
inline void read_inputs(const GridSize& size, const WinogradTile& tile, const float* grids, int64_t channels, float* to,
                        int64_t stride) {
  Wide v[kTurned];
  const int64_t d = tile.d - 1, h = tile.h - 1, w = tile.w - 1;
  const bool inner = d >= 0 && h >= 0 && w >= 0 && d + 4 <= size.d && h + 4 <= size.h && w + 4 <= size.w;
  for (int a = 0; a < 4; ++a) {
    for (int b = 0; b < 4; ++b) {
      Wide* at = v + 16 * a + 4 * b;
      for (int c = 0; c < 4; ++c) {
        at[c] = inner || size.has(d + a, h + b, w + c)
                    ? load(grids + size.cell(tile.grid, d + a, h + b, w + c) * channels)
                    : Wide{};
      }
      turn_inputs<1>(at);
    }
    for (int c = 0; c < 4; ++c) turn_inputs<4>(v + 16 * a + c);
  }
  for (int k = 0; k < 16; ++k) {
    turn_inputs<16>(v + k);
    for (int a = 0; a < 4; ++a) store(to + (16 * a + k) * stride, v[16 * a + k]);
  }
}

// The same of its 2x2x2 gradients, which are added to `sum` too.
inline void read_gradients(const GridSize& size, const WinogradTile& tile, const float* grids, int64_t channels, float* to,
                           int64_t stride, float* sum) {
  Wide v[kTurned];
  for (int a = 0; a < 2; ++a) {
    for (int b = 0; b < 2; ++b) {
      Wide* at = v + 16 * a + 4 * b;
      for (int c = 0; c < 2; ++c) {
        at[c] = size.has(tile.d + a, tile.h + b, tile.w + c)
                    ? load(grids + size.cell(tile.grid, tile.d + a, tile.h + b, tile.w + c) * channels)
                    : Wide{};
      }
      store(sum, load(sum) + (at[0] + at[1]));
      turn_gradients<1>(at);
    }
    for (int c = 0; c < 4; ++c) turn_gradients<4>(v + 16 * a + c);
  }
  for (int k = 0; k < 16; ++k) {
    turn_gradients<16>(v + k);
    for (int a = 0; a < 4; ++a) store(to + (16 * a + k) * stride, v[16 * a + k]);
  }
}

// Its 2x2x2 results.
inline void write_results(const GridSize& size, const WinogradTile& tile, const float* from, int64_t stride, Wide bias,
                          float* grids, int64_t channels) {
  Wide v[kTurned];
  for (int k = 0; k < 16; ++k) {
    for (int a = 0; a < 4; ++a) v[16 * a + k] = load(from + (16 * a + k) * stride);
    turn_results<16>(v + k);
  }
  for (int a = 0; a < 2; ++a) {
    for (int c = 0; c < 4; ++c) turn_results<4>(v + 16 * a + c);
    for (int b = 0; b < 2; ++b) {
      Wide* at = v + 16 * a + 4 * b;
      turn_results<1>(at);
      for (int c = 0; c < 2; ++c) {
        if (!size.has(tile.d + a, tile.h + b, tile.w + c)) continue;
        store(grids + size.cell(tile.grid, tile.d + a, tile.h + b, tile.w + c) * channels, at[c] + bias);
      }
    }
  }
}

// A matrix as it lies in memory: numbers a row and a column apart.
struct Strided {
  const float* at;
  int64_t row, column;
};

// Some rows and vectors of columns of left [.., count] right [count, ..], written or added to what is there.
template <int Rows, int Vectors, bool kAdd>
inline void multiply_block(Strided left, const float* right, int64_t right_row, int64_t count, float* to, int64_t to_row) {
  Wide sums[Rows][Vectors];
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < Vectors; ++j) sums[i][j] = kAdd ? load(to + i * to_row + j * kLanes) : Wide{};
  }
  for (int64_t k = 0; k < count; ++k) {
    Wide factors[Vectors];
    for (int j = 0; j < Vectors; ++j) factors[j] = load(right + k * right_row + j * kLanes);
    for (int i = 0; i < Rows; ++i) {
      const float factor = left.at[i * left.row + k * left.column];
      for (int j = 0; j < Vectors; ++j) sums[i][j] += factor * factors[j];
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < Vectors; ++j) store(to + i * to_row + j * kLanes, sums[i][j]);
  }
}

// left [rows, count] right [count, columns], columns a multiple of a vector.
template <bool kAdd>
inline void multiply(Strided left, const float* right, int64_t rows, int64_t count, int64_t columns, float* to) {
  const auto stripe = [&](auto vectors, int64_t j) {
    constexpr int kVectors = decltype(vectors)::value, kMost = 2 * kRows / kVectors;
    const auto block = [&](auto size, int64_t i) {
      const Strided part = {left.at + i * left.row, left.row, left.column};
      multiply_block<decltype(size)::value, kVectors, kAdd>(part, right + j, columns, count, to + i * columns + j, columns);
    };
    int64_t i = 0;
    for (; i + kMost <= rows; i += kMost) block(std::integral_constant<int, kMost>{}, i);
    for (; i < rows; ++i) block(std::integral_constant<int, 1>{}, i);
  };
  int64_t j = 0;
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes) stripe(std::integral_constant<int, 2>{}, j);
  if (j < columns) stripe(std::integral_constant<int, 1>{}, j);
}

// Two tables of turned numbers, of the tiles of a piece: [64, tiles, channels] each.
struct Piece {
  int64_t first, count;           // tiles
  int64_t in_stride, out_stride;  // from one of the 64 to the next
  float *in, *out;
  float* bias;  // [out channels], sums over the piece

  Piece(const TiledGrids& shape, int64_t index, float* memory) {
    first = index * shape.together(), count = std::min(shape.together(), shape.tiles() - first);
    in_stride = shape.stride(shape.in), out_stride = shape.stride(shape.out);
    in = memory, out = in + kTurned * in_stride, bias = out + kTurned * out_stride;
  }
};

// Calls at(tile, its place in the piece, channel) for all channels, one vector of them at a time.
template <typename At>
inline void each_tile(const TiledGrids& shape, const Piece& piece, int64_t channels, const At& at) {
  for (int64_t t = 0; t < piece.count; ++t) {
    const WinogradTile tile = shape.tile(piece.first + t);
    for (int64_t k = 0; k < channels; k += kLanes) at(tile, t * channels + k, k);
  }
}

inline void read_all_inputs(const TiledGrids& shape, const Piece& piece, const float* grids) {
  each_tile(shape, piece, shape.in, [&](const WinogradTile& tile, int64_t place, int64_t channel) {
    read_inputs(shape.size, tile, grids + channel, shape.in, piece.in + place, piece.in_stride);
  });
}

inline void run_piece(const ConvolveGrids& kernel, int64_t index, float* memory) {
  const TiledGrids& shape = kernel.shape;
  const Piece piece(shape, index, memory);
  read_all_inputs(shape, piece, kernel.grids);
  for (int64_t p = 0; p < kTurned; ++p) {
    multiply<false>({piece.in + p * piece.in_stride, shape.in, 1}, kernel.kernels + p * shape.in * shape.out, piece.count,
                    shape.in, shape.out, piece.out + p * piece.out_stride);
  }
  each_tile(shape, piece, shape.out, [&](const WinogradTile& tile, int64_t place, int64_t channel) {
    const Wide bias = kernel.bias != nullptr ? load(kernel.bias + channel) : Wide{};
    write_results(shape.size, tile, piece.out + place, piece.out_stride, bias, kernel.results + channel, shape.out);
  });
}

// Adds a piece's share to the gradients of the turned kernels, and behind them of the bias.
inline void add_piece(const ConvolutionGradients& kernel, int64_t index, float* memory, float* sums) {
  const TiledGrids& shape = kernel.shape;
  const Piece piece(shape, index, memory);
  read_all_inputs(shape, piece, kernel.grids);
  std::fill_n(piece.bias, shape.out, 0.0f);
  each_tile(shape, piece, shape.out, [&](const WinogradTile& tile, int64_t place, int64_t channel) {
    read_gradients(shape.size, tile, kernel.gradients + channel, shape.out, piece.out + place, piece.out_stride,
                   piece.bias + channel);
  });
  for (int64_t p = 0; p < kTurned; ++p) {
    multiply<true>({piece.in + p * piece.in_stride, 1, shape.in}, piece.out + p * piece.out_stride, shape.in,
                   piece.count, shape.out, sums + p * shape.in * shape.out);
  }
  for (int64_t k = 0; k < shape.out; ++k) sums[kTurned * shape.in * shape.out + k] += piece.bias[k];
}
