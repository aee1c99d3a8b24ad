// Philox4x32-10: counter-based random numbers.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, sections 3 and 4.
//
// A number is a function of (seed, shape, step, purpose, index) alone, so the same seed draws the same points on one
// or sixteen threads, on the CPU and on the GPU, whatever else is drawn beside it.
#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace pyimplicit {

struct Words4 {
  uint32_t w[4];
};

PIM_HOST_DEVICE inline Words4 philox4x32(Words4 counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t(0xD2511F53u) * counter.w[0];
    const uint64_t product1 = uint64_t(0xCD9E8D57u) * counter.w[2];
    counter = {{uint32_t(product1 >> 32) ^ counter.w[1] ^ key0, uint32_t(product1),
                uint32_t(product0 >> 32) ^ counter.w[3] ^ key1, uint32_t(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// One stream of draws. `purpose` keeps draws apart that share seed, shape and step (a face, its barycentric
// coordinates, the noise added to it).
struct RandomStream {
  uint64_t seed;
  uint32_t shape;
  uint32_t step;
  uint32_t purpose;

  PIM_HOST_DEVICE Words4 words(int64_t index) const {
    const Words4 counter = {{uint32_t(index), (uint32_t(uint64_t(index) >> 32) & 0xFFFFu) | (purpose << 16), shape, step}};
    return philox4x32(counter, uint32_t(seed), uint32_t(seed >> 32));
  }
};

// Uniform in the open interval (0, 1), 32 bits: never 0, so its logarithm is finite.
PIM_HOST_DEVICE inline double open_uniform(uint32_t word) { return (double(word) + 0.5) * 2.3283064365386962890625e-10; }

// Uniform in [0, 1), 53 bits.
PIM_HOST_DEVICE inline double uniform53(uint32_t high, uint32_t low) {
  return double((uint64_t(high) << 21) | (low >> 11)) * 1.1102230246251565404e-16;
}

}  // namespace pyimplicit
