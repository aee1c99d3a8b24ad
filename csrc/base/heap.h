// Whether the C library's allocator keeps the memory that is given back to it, or hands it to the system.
#pragma once

#include <cstdint>
#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace pyimplicit {

constexpr int64_t kKeepAll = -1;

// Keeps pieces of up to `largest` bytes; 0 is what a process starts with, but that the limits no longer adapt. Returns
// false where the C library is none that can be told.
inline bool keep_heap(int64_t largest) {
#if defined(__GLIBC__)
  constexpr int kMostMappings = 65536, kNeverTrim = -1, kThreshold = 128 * 1024;
  const bool keep = largest != 0;
  // Larger pieces are mappings of their own, which go back to the system as a whole.
  bool told = mallopt(M_MMAP_MAX, largest == kKeepAll ? 0 : kMostMappings) != 0;
  if (largest != kKeepAll) told = mallopt(M_MMAP_THRESHOLD, keep ? int(largest) : kThreshold) != 0 && told;
  told = mallopt(M_TRIM_THRESHOLD, keep ? kNeverTrim : kThreshold) != 0 && told;
  if (!keep) malloc_trim(0);
  return told;
#else
  (void)largest;
  return false;
#endif
}

}  // namespace pyimplicit
