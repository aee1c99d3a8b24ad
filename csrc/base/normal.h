// Normal random numbers from the words of philox.h, to the same bits on CPU and GPU.
//
// Logarithm and circle by series of our own: a library's differ from processor to processor, and cost several times as
// much. Every operation is rounded by itself, also where a GPU would rather fuse two.
#pragma once

#include <cmath>
#include <cstring>

#include "base/philox.h"
#include "base/vec3.h"

namespace pyimplicit {

namespace exact {

// coefficients[0] + x (coefficients[1] + x (...))
template <int N>
PIM_HOST_DEVICE inline double polynomial(double x, const double (&coefficients)[N]) {
  double sum = coefficients[N - 1];
  for (int k = N - 2; k >= 0; --k) sum = add_rounded(mul_rounded(sum, x), coefficients[k]);
  return sum;
}

// ln of open_uniform(word), to the last digits also next to 0 and to 1.
PIM_HOST_DEVICE inline double log_uniform(uint32_t word) {
  const double x = double(word) + 0.5;  // between a half and 2^32
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  int exponent = int(bits >> 52) - 1023 - 32;
  bits = (bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u;
  double mantissa;
  std::memcpy(&mantissa, &bits, sizeof(mantissa));
  const bool upper = mantissa > 1.4142135623730951;
  exponent += upper;
  mantissa = upper ? 0.5 * mantissa : mantissa;  // between sqrt(1/2) and sqrt(2)
  // ln m = 2 artanh((m - 1) / (m + 1))
  constexpr double kArtanh[] = {2.0,      2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9, 2.0 / 11,
                                2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21};
  const double s = (mantissa - 1) / (mantissa + 1);
  const double of_mantissa = mul_rounded(s, polynomial(mul_rounded(s, s), kArtanh));
  return add_rounded(mul_rounded(double(exponent), 0.69314718055994530942), of_mantissa);
}

struct CirclePoint {
  double cosine, sine;
};

// The point of the unit circle at open_uniform(word) of a turn.
PIM_HOST_DEVICE inline CirclePoint circle_point(uint32_t word) {
  constexpr double kSine[] = {1.0,          -1.0 / 6,          1.0 / 120,           -1.0 / 5040,
                              1.0 / 362880, -1.0 / 39916800.0, 1.0 / 6227020800.0, -1.0 / 1307674368000.0};
  constexpr double kCosine[] = {1.0,           -1.0 / 2,           1.0 / 24,           -1.0 / 720,
                                1.0 / 40320.0, -1.0 / 3628800.0,   1.0 / 479001600.0, -1.0 / 87178291200.0,
                                1.0 / 20922789888000.0};
  const double quarters = 4 * open_uniform(word);
  const int quarter = int(quarters + 0.5);
  const double x = mul_rounded(quarters - quarter, 1.57079632679489661923), squared = mul_rounded(x, x);
  const double sine = mul_rounded(x, polynomial(squared, kSine)), cosine = polynomial(squared, kCosine);
  const double along = quarter & 1 ? -sine : cosine, across = quarter & 1 ? cosine : sine;
  return quarter & 2 ? CirclePoint{-along, -across} : CirclePoint{along, across};
}

}  // namespace exact

// Three independent standard normals.
// Source: Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958.
PIM_HOST_DEVICE inline Vec3d normal3(Words4 words) {
  const double first = std::sqrt(-2 * exact::log_uniform(words.w[0]));
  const double second = std::sqrt(-2 * exact::log_uniform(words.w[2]));
  const exact::CirclePoint a = exact::circle_point(words.w[1]), b = exact::circle_point(words.w[3]);
  return {mul_rounded(first, a.cosine), mul_rounded(first, a.sine), mul_rounded(second, b.cosine)};
}

}  // namespace pyimplicit
