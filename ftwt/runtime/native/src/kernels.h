/* All kernels, for the instruction set of the including file: LANES, REGISTERS, NAME, TABLE_NAME. */
#include "engine.h"

#include <limits.h>
#include <stdlib.h>

#include "vector.h"

/* Channels of one item. */
enum { CHUNK = 4, PACK_CHANNELS = 4, POOL_CHANNELS = 8, ROW_OUTPUTS = 128 };
enum { PASS_CHANNELS = 8 };
/* Vectors of outputs that are added up at once: a whole tile, where that leaves no lane idle. */
enum { ROW_VECTORS = LANES == 8 ? 8 : 4 };
/* Vectors of outputs that are added up at once for SHARING samples. */
enum { SHARED_VECTORS = REGISTERS == 32 ? 4 : 3 };
/* The largest plane that goes into a layout by a table without loops over single floats. */
#if LANES == 8
enum { TABLE_SIZE = 2 * LANES };
#else
enum { TABLE_SIZE = LANES };
#endif
/* Inputs whose rows of a tile stay in the first cache, beside sums and inputs of some samples. */
enum { TILE_INPUTS = LANES == 16 ? 96 : 64 };

#include "micro.h"

#include "table.h"
#include "summary.h"

#include "few.h"
#include "layout.h"

#include "finish.h"
#include "depthwise.h"
#include "sum.h"
#include "convolve.h"
#include "gate.h"
#include "bottleneck.h"
#include "planes.h"

/* Sums enough that none waits for the one before. */
enum { PEAK_SUMS = REGISTERS == 32 ? 24 : 12 };

static int64_t multiply(int rounds) {
    vec sum[PEAK_SUMS];
    for (int i = 0; i < PEAK_SUMS; i++) sum[i] = splat((float)i);
    const vec by = splat(0.5f), more = splat(1);
    for (int round = 0; round < rounds; round++)
#pragma GCC unroll 24
        for (int i = 0; i < PEAK_SUMS; i++) sum[i] = sum[i] * by + more;
    vec all = splat(0);
    for (int i = 0; i < PEAK_SUMS; i++) all += sum[i];
    /* All sums are near 2: never so few that the work is left undone. */
    return sum_of(all) > 0 ? (int64_t)rounds * PEAK_SUMS * LANES : 0;
}

const ftwt_kernels TABLE_NAME = {
    .name = NAME,
    .lanes = LANES,
    .share = SHARE,
    .supported = supported,
    .multiply = multiply,
    .arrange = arrange,
    .filters = FILTERS,
    .masked_vectors = MASKED_VECTORS,
    .plane_channels = CHUNK,
    .pack_channels = PACK_CHANNELS,
    .pool_channels = POOL_CHANNELS,
    .pass_channels = PASS_CHANNELS,
    .row_outputs = ROW_OUTPUTS,
    .gate_pool = gate_pool,
    .gate_normalize = gate_normalize,
    .gate_decide = gate_decide,
    .gate_decide_many = gate_decide_many,
    .gate_decide_hidden = gate_decide_hidden,
    .pack = pack,
    .convolve = convolve,
    .convolve_samples = convolve_samples,
    .convolve_strips = convolve_strips,
    .depthwise = depthwise,
    .linear = linear,
    .planes = planes,
    .pass = pass,
};
