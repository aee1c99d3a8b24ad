// Interpolation with vector loops over the channels, for maps whose channels lie next to each other in memory. Included
// once for each instruction set, inside a namespace of its own: see interpolation_cpu.cpp.

#include "base/lanes_simd.h"
#include "interpolation/interpolation_corners_simd.h"
#include "interpolation/interpolation_steps_simd.h"
#include "interpolation/interpolation_rows_simd.h"
#include "interpolation/interpolation_gather_simd.h"
#include "interpolation/interpolation_scatter_simd.h"
#include "interpolation/interpolation_slope_simd.h"
