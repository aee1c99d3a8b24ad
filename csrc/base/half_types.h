// float16 and bfloat16 as memory holds them: read into float32, computed there, rounded to the nearest even on writing.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/host_device.h"

namespace pyimplicit {

PIM_HOST_DEVICE inline float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

PIM_HOST_DEVICE inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

struct BFloat16 {
  uint16_t bits;

  BFloat16() = default;
  PIM_HOST_DEVICE explicit BFloat16(float value) {
    const uint32_t all = bits_of_float(value);
    bits = value == value ? uint16_t((all + 0x7fff + ((all >> 16) & 1)) >> 16) : uint16_t(0x7fc0);
  }
  PIM_HOST_DEVICE operator float() const { return float_of_bits(uint32_t(bits) << 16); }
};

struct Float16 {
  uint16_t bits;

  Float16() = default;
  PIM_HOST_DEVICE explicit Float16(float value) {
    const uint32_t all = bits_of_float(value), magnitude = all & 0x7fffffff;
    uint32_t half;
    if (magnitude > 0x7f800000) {
      half = 0x7e00;  // NaN
    } else if (magnitude >= 0x477ff000) {
      half = 0x7c00;  // 65520 and more round to infinity
    } else if (magnitude < 0x38800000) {
      // Below 2^-14: a float32 near 0.5 has the same unit in the last place, so the addition rounds.
      half = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000;
    } else {
      half = (magnitude + 0xfff + ((magnitude >> 13) & 1) - (112u << 23)) >> 13;
    }
    bits = uint16_t(half | ((all >> 16) & 0x8000));
  }
  PIM_HOST_DEVICE operator float() const {
    const uint32_t magnitude = bits & 0x7fff, sign = uint32_t(bits & 0x8000) << 16;
    const uint32_t value = magnitude >= 0x7c00  ? (magnitude << 13) | 0x7f800000
                           : magnitude >= 0x400 ? (magnitude << 13) + (112u << 23)
                                                : bits_of_float(float(magnitude) * 5.9604644775390625e-8f);  // 2^-24
    return float_of_bits(value | sign);
  }
};

// What sums of a storage type are kept in.
template <typename Storage>
struct AccumulatorOf {
  using Type = float;
};
template <>
struct AccumulatorOf<double> {
  using Type = double;
};

}  // namespace pyimplicit
