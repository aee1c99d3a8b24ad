// Interpolation with vector loops over the channels, for maps whose channels lie next to each other in memory. Included
// once for each instruction set, inside a namespace of its own: see interpolation_cpu.cpp.

#include "lanes_simd.h"
#include "interpolation_corners_simd.h"
#include "interpolation_rows_simd.h"
#include "interpolation_gather_simd.h"
#include "interpolation_scatter_simd.h"
#include "interpolation_slope_simd.h"
