// Weighted choice in constant time, by the alias method.
// Source: Walker, "An Efficient Method for Generating Discrete Random Variables with General Distributions", 1977;
// built as in Vose, "A Linear Algorithm for Generating Random Numbers with a Given Distribution", 1991.
#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace pyimplicit {

// Of all draws that come to this entry, `share` stay with it, the others go to `other`.
struct AliasEntry {
  float share;
  int32_t other;
};

// A uniform place among `count` entries from 64 random bits: which entry, and how far into it, in [0, 1).
struct UniformPlace {
  int64_t index;
  float within;

  PIM_HOST_DEVICE UniformPlace(uint32_t high, uint32_t low, int64_t count) {
    const uint64_t product = uint64_t(high) * uint64_t(count) + ((uint64_t(low) * uint64_t(count)) >> 32);
    index = int64_t(product >> 32);
    within = float(uint32_t(product) >> 8) * 5.9604644775390625e-8f;  // 24 bits: exact, and never 1
  }
};

PIM_HOST_DEVICE inline int64_t pick(const AliasEntry* entries, int64_t count, uint32_t high, uint32_t low) {
  const UniformPlace place(high, low, count);
  const AliasEntry entry = entries[place.index];
  return place.within < entry.share ? place.index : entry.other;
}

}  // namespace pyimplicit
