// Normalisations on the CPU: channels_simd.h, compiled for each instruction set and chosen at run time.
#include <algorithm>
#include <initializer_list>

#include "base/instruction_set.h"
#include "networks/channels.h"

#if defined(PIM_HAVE_AVX2)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace pyimplicit::avx2::channels {
#include "networks/channels_simd.h"
}
#pragma GCC pop_options
#endif

namespace pyimplicit::baseline::channels {
#include "networks/channels_simd.h"
}

namespace pyimplicit {

namespace {

// Factors [S, C] of a shape, repeated to the length of a line.
template <typename T>
std::vector<T> repeat(const ChannelTable& table, int64_t shape, std::initializer_list<const T*> factors) {
  std::vector<T> lines;
  lines.reserve(factors.size() * table.together() * table.channels);
  for (const T* of : factors) {
    const T* row = of + shape * table.channels;
    for (int64_t k = 0; k < table.together(); ++k) lines.insert(lines.end(), row, row + table.channels);
  }
  return lines;
}

// Calls run(piece of the table, its first number, how many, numbers of a line).
template <typename Run>
void each_piece(const ChannelTable& table, Executor executor, const Run& run) {
  const int64_t length = table.together() * table.channels;
  const auto at = [&](int64_t index) {
    const auto piece = table.piece(index);
    run(index, piece, (piece.shape * table.rows + piece.first) * table.channels, piece.count * table.channels, length);
  };
  parallel_for(table.pieces(), at, executor, 1);
}

// Two sums of each channel of a piece, [2, line], with factors for each channel.
template <typename T, typename Kernel>
std::vector<double> sum_piece(const Kernel& kernel, bool plain, int64_t first, int64_t numbers, int64_t length,
                              const T* lines) {
  std::vector<double> sums(2 * length);
#if defined(PIM_HAVE_AVX2)
  if (!plain && have_avx2()) {
    avx2::channels::run_piece(kernel, first, numbers, length, lines, sums.data());
    return sums;
  }
#endif
  (void)plain;
  baseline::channels::run_piece(kernel, first, numbers, length, lines, sums.data());
  return sums;
}

// Of one of the two sums of a line, those of each channel.
void fold(const double* line, int64_t length, int64_t channels, double* sums) {
  std::fill_n(sums, channels, 0.0);
  for (int64_t k = 0; k < length; ++k) sums[k % channels] += line[k];
}

template <typename T, typename Kernel>
void map(const Kernel& kernel, bool plain, std::initializer_list<const T*> factors, Executor executor) {
  const bool use_avx2 = !plain && have_avx2();
  each_piece(kernel.table, executor, [&](int64_t, auto piece, int64_t first, int64_t numbers, int64_t length) {
    const std::vector<T> lines = repeat<T>(kernel.table, piece.shape, factors);
    (void)use_avx2;
#if defined(PIM_HAVE_AVX2)
    if (use_avx2) return avx2::channels::run_piece(kernel, first, numbers, length, lines.data());
#endif
    baseline::channels::run_piece(kernel, first, numbers, length, lines.data());
  });
}

}  // namespace

// Each piece about its own mean, roughly known from a first look: squares of numbers far from 0 would lose the digits that
// tell these apart. Then piece by piece put together.
// Source: Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance", 1983, section 2.
template <typename T>
void run_channels(const ChannelMoments<T>& kernel, bool plain, Executor executor) {
  const ChannelTable& table = kernel.table;
  const int64_t channels = table.channels;
  std::vector<double> of_pieces(table.pieces() * channels * 2);  // mean, and sum of squares about it
  each_piece(table, executor, [&](int64_t index, auto piece, int64_t first, int64_t numbers, int64_t length) {
    double *mean = of_pieces.data() + index * channels * 2, *squares = mean + channels;
    const double count = double(piece.count);
    std::vector<T> lines(length);
    fold(sum_piece<T>(kernel, plain, first, numbers, length, lines.data()).data(), length, channels, mean);
    for (int64_t k = 0; k < length; ++k) lines[k] = T(mean[k % channels] / count);
    const std::vector<double> sums = sum_piece<T>(kernel, plain, first, numbers, length, lines.data());
    fold(sums.data(), length, channels, mean);
    fold(sums.data() + length, length, channels, squares);
    for (int64_t c = 0; c < channels; ++c) {
      const double moved = mean[c] / count;
      squares[c] -= moved * mean[c], mean[c] = double(lines[c]) + moved;
    }
  });
  for (int64_t i = 0; i < table.shapes * channels; ++i) {
    const int64_t shape = i / channels, c = i % channels;
    double count = 0, mean = 0, squares = 0;
    for (int64_t k = 0; k < table.pieces_each(); ++k) {
      const int64_t index = shape * table.pieces_each() + k;
      const double *of = of_pieces.data() + index * channels * 2, more = double(table.piece(index).count);
      const double apart = of[c] - mean, both = count + more;
      squares += of[channels + c] + apart * apart * (count * more / both);
      mean += apart * (more / both);
      count = both;
    }
    kernel.mean[i] = mean;
    kernel.variance[i] = squares < 0 ? 0 : squares / count;  // NaN stays
  }
}

template <typename T>
void run_channels(const ChannelProducts<T>& kernel, bool plain, Executor executor) {
  const ChannelTable& table = kernel.table;
  const int64_t channels = table.channels;
  std::vector<double> of_pieces(table.pieces() * channels * 2);
  each_piece(table, executor, [&](int64_t index, auto piece, int64_t first, int64_t numbers, int64_t length) {
    const std::vector<T> lines = repeat<T>(table, piece.shape, {kernel.center});
    const std::vector<double> line = sum_piece<T>(kernel, plain, first, numbers, length, lines.data());
    double* sums = of_pieces.data() + index * channels * 2;
    fold(line.data(), length, channels, sums);
    fold(line.data() + length, length, channels, sums + channels);
  });
  for (int64_t i = 0; i < table.shapes * channels; ++i) {
    const double* first = of_pieces.data() + i / channels * table.pieces_each() * channels * 2 + i % channels;
    kernel.sums[i] = kernel.products[i] = 0;
    for (int64_t k = 0; k < table.pieces_each(); ++k) {
      kernel.sums[i] += first[2 * k * channels], kernel.products[i] += first[(2 * k + 1) * channels];
    }
  }
}

template <typename T>
void run_channels(const ChannelAffine<T>& kernel, bool plain, Executor executor) {
  map<T>(kernel, plain, {kernel.scale, kernel.shift}, executor);
}

template <typename T>
void run_channels(const ChannelAffineGradient<T>& kernel, bool plain, Executor executor) {
  map<T>(kernel, plain, {kernel.scale, kernel.slope, kernel.shift}, executor);
}

#define PIM_INSTANTIATE(T)                                                     \
  template void run_channels(const ChannelMoments<T>&, bool, Executor);              \
  template void run_channels(const ChannelProducts<T>&, bool, Executor);             \
  template void run_channels(const ChannelAffine<T>&, bool, Executor);               \
  template void run_channels(const ChannelAffineGradient<T>&, bool, Executor);
PIM_INSTANTIATE(float)
PIM_INSTANTIATE(double)
#undef PIM_INSTANTIATE

}  // namespace pyimplicit
