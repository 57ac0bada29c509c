#ifndef FTWT_EXTENTS_H
#define FTWT_EXTENTS_H

#include "program.h"

/* The floats of weight, bias, rows, weight2 and bias2 of a step whose numbers hold; 0 where it has
 * none. */
void ftwt_extents(const ftwt_program *program, const ftwt_step *step, int64_t floats[5]);

#endif
