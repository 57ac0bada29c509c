/* Vectors of four floats, which every processor's compiler can make. */
#define LANES 4
#define REGISTERS 16
#define NAME "portable"
#define TABLE_NAME ftwt_portable

static int supported(void) {
    return 1;
}

#include "kernels.h"
