// Whether the C library's allocator keeps the memory that is given back to it, or hands large pieces to the system.
#pragma once

#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace pyimplicit {

// Returns false where the C library is none that can be told. The limits that are set at the end are those it starts
// with; it no longer moves them by itself then.
inline bool keep_heap(bool keep) {
#if defined(__GLIBC__)
  constexpr int kNoMappings = 0, kMostMappings = 65536, kNeverTrim = -1, kThreshold = 128 * 1024;
  const bool told = mallopt(M_MMAP_MAX, keep ? kNoMappings : kMostMappings) != 0 &&
                    mallopt(M_TRIM_THRESHOLD, keep ? kNeverTrim : kThreshold) != 0;
  if (!keep) {
    mallopt(M_MMAP_THRESHOLD, kThreshold);
    malloc_trim(0);
  }
  return told;
#else
  (void)keep;
  return false;
#endif
}

}  // namespace pyimplicit
